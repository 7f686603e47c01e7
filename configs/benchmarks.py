"""The settings of each benchmark: one function for each, which takes the name of the objective.

The first one, `cifar10`, explains each key. Those that describe the data set are also in `ucl_jax/data/benchmarks.py`,
where probes look up the data sets that a run was not trained on. A test compares the two.
"""

from typing import Any

from ucl_jax.data.benchmarks import CIFAR10_MEAN, CIFAR10_STD

Sections = dict[str, dict[str, Any]]  # section of the config tree -> key -> value


def cifar10(objective: str) -> Sections:
    """Returns the settings of Split CIFAR-10, the paper's first benchmark."""
    labels = objective == "supervised"
    return dict(
        benchmark=dict(
            name="cifar10",
            tfds_name="cifar10",  # any TFDS image classification data set
            num_tasks=5,  # the first num_tasks * classes_per_task classes are used
            classes_per_task=2,
            image_size=32,  # pixels a side
            fit="none",  # none | pad | resize: how stored images come to image_size
            test_split="test",
        ),
        augment=dict(
            crop_scale=(0.2, 1.0),  # of resized crops: least and largest fraction of the image's area
            crop_padding=4,  # of padded crops: zeros on each side
            flip=0.5,  # probability of a mirror image
            mean=CIFAR10_MEAN,  # for pixels in [0, 1]; the official code has CIFAR-10's on nearly every data set
            std=CIFAR10_STD,
            replay_crop_scale=(0.08, 1.0),  # this and the next two: for the weak view of replayed images
            replay_mean=CIFAR10_MEAN,
            replay_std=CIFAR10_STD,
        ),
        model=dict(width=64),  # channels of the first stage
        train=dict(
            epochs=50 if labels else 200,  # epochs of each task; 0 only evaluates
            batch_size=32 if labels else 256,  # images over all devices
            # The rate at batch 256. It is scaled by batch_size / 256, and constant over time: 0.24 becomes 0.03 at
            # batch 32. The three numbers with labels are from memory of the paper's appendix, not checked.
            learning_rate=0.24 if labels else 0.03,
        ),
        eval=dict(knn_k=200),  # neighbours of kNN
        checkpoint=dict(every_steps=1000),  # steps between checkpoints
    )


def cifar100(objective: str) -> Sections:
    """Returns the settings of Split CIFAR-100."""
    labels = objective == "supervised"
    return dict(
        benchmark=dict(
            name="cifar100",
            tfds_name="cifar100",
            num_tasks=20,
            classes_per_task=5,
            image_size=32,
            fit="none",
            test_split="test",
        ),
        augment=dict(
            crop_scale=(0.2, 1.0),
            crop_padding=4,
            flip=0.5,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            replay_crop_scale=(0.08, 1.0),
            replay_mean=CIFAR10_MEAN,
            replay_std=CIFAR10_STD,
        ),
        model=dict(width=64),
        train=dict(
            epochs=50 if labels else 200,
            batch_size=32 if labels else 256,
            learning_rate=0.24 if labels else 0.03,
        ),
        eval=dict(knn_k=200),
        checkpoint=dict(every_steps=1000),
    )


def tiny_imagenet(objective: str) -> Sections:
    """Returns the settings of Split Tiny-ImageNet: the first 100 of its 200 classes."""
    labels = objective == "supervised"
    return dict(
        benchmark=dict(
            name="tiny_imagenet",
            tfds_name="tiny_imagenet",
            num_tasks=20,
            classes_per_task=5,
            image_size=64,
            fit="none",
            test_split="validation",  # the official test split has no labels
        ),
        augment=dict(
            crop_scale=(0.2, 1.0),
            crop_padding=4,
            flip=0.5,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            replay_crop_scale=(0.08, 1.0),
            replay_mean=(0.4802, 0.4480, 0.3975),  # its own, as in the official code
            replay_std=(0.2770, 0.2691, 0.2821),
        ),
        model=dict(width=64),
        train=dict(
            epochs=50 if labels else 200,
            batch_size=32 if labels else 256,
            learning_rate=0.24 if labels else 0.03,
        ),
        eval=dict(knn_k=200),
        checkpoint=dict(every_steps=1000),
    )


def digits(objective: str) -> Sections:
    """Returns the settings of the embedded digits, sized so that two CPU cores need a minute for a run."""
    labels = objective == "supervised"
    return dict(
        benchmark=dict(
            name="digits",
            tfds_name="digits",
            num_tasks=5,
            classes_per_task=2,
            image_size=8,
            fit="none",
            test_split="test",
        ),
        augment=dict(
            crop_scale=(0.6, 1.0),
            crop_padding=1,
            flip=0.0,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            replay_crop_scale=(0.6, 1.0),
            replay_mean=CIFAR10_MEAN,
            replay_std=CIFAR10_STD,
        ),
        model=dict(width=12 if objective == "simsiam" else 8),  # SimSiam fails on some seeds at width 8
        train=dict(
            epochs=10 if labels else 40,
            batch_size=32 if labels else 64,
            learning_rate=0.24 if labels else 0.25,
        ),
        eval=dict(knn_k=20),
        checkpoint=dict(every_steps=100),
    )


def mnist(objective: str) -> Sections:
    """Returns the settings of Split MNIST: 28x28 grey images, padded by 2 on every side; the rest as CIFAR-10."""
    labels = objective == "supervised"
    return dict(
        benchmark=dict(
            name="mnist",
            tfds_name="mnist",
            num_tasks=5,
            classes_per_task=2,
            image_size=32,
            fit="pad",
            test_split="test",
        ),
        augment=dict(
            crop_scale=(0.2, 1.0),
            crop_padding=4,
            flip=0.5,
            mean=(0.1, 0.1, 0.1),
            std=(0.2752, 0.2752, 0.2752),
            replay_crop_scale=(0.08, 1.0),
            replay_mean=(0.1, 0.1, 0.1),
            replay_std=(0.2752, 0.2752, 0.2752),
        ),
        model=dict(width=64),
        train=dict(
            epochs=50 if labels else 200,
            batch_size=32 if labels else 256,
            learning_rate=0.24 if labels else 0.03,
        ),
        eval=dict(knn_k=200),
        checkpoint=dict(every_steps=1000),
    )


def fashion_mnist(objective: str) -> Sections:
    """Returns the settings of Split Fashion-MNIST: 28x28 grey images, padded as MNIST's; the rest as CIFAR-10."""
    labels = objective == "supervised"
    return dict(
        benchmark=dict(
            name="fashion_mnist",
            tfds_name="fashion_mnist",
            num_tasks=5,
            classes_per_task=2,
            image_size=32,
            fit="pad",
            test_split="test",
        ),
        augment=dict(
            crop_scale=(0.2, 1.0),
            crop_padding=4,
            flip=0.5,
            mean=(0.2190, 0.2190, 0.2190),
            std=(0.3318, 0.3318, 0.3318),
            replay_crop_scale=(0.08, 1.0),
            replay_mean=(0.2190, 0.2190, 0.2190),
            replay_std=(0.3318, 0.3318, 0.3318),
        ),
        model=dict(width=64),
        train=dict(
            epochs=50 if labels else 200,
            batch_size=32 if labels else 256,
            learning_rate=0.24 if labels else 0.03,
        ),
        eval=dict(knn_k=200),
        checkpoint=dict(every_steps=1000),
    )


def svhn_cropped(objective: str) -> Sections:
    """Returns the settings of Split SVHN, which are those of CIFAR-10."""
    labels = objective == "supervised"
    return dict(
        benchmark=dict(
            name="svhn_cropped",
            tfds_name="svhn_cropped",
            num_tasks=5,
            classes_per_task=2,
            image_size=32,
            fit="none",
            test_split="test",
        ),
        augment=dict(
            crop_scale=(0.2, 1.0),
            crop_padding=4,
            flip=0.5,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            replay_crop_scale=(0.08, 1.0),
            replay_mean=CIFAR10_MEAN,
            replay_std=CIFAR10_STD,
        ),
        model=dict(width=64),
        train=dict(
            epochs=50 if labels else 200,
            batch_size=32 if labels else 256,
            learning_rate=0.24 if labels else 0.03,
        ),
        eval=dict(knn_k=200),
        checkpoint=dict(every_steps=1000),
    )


BENCHMARKS = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny_imagenet": tiny_imagenet,
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "svhn_cropped": svhn_cropped,
}
