"""Lists the benchmarks: what each data set is, and how it is cut into tasks.

It is pure data and cheap to import. Recipes take these values into their config trees (`configs/base.py`). Probes look
up here the data sets that a run was not trained on.
"""

from typing import NamedTuple

Colour = tuple[float, float, float]

CIFAR10_MEAN: Colour = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: Colour = (0.2470, 0.2435, 0.2615)


class Benchmark(NamedTuple):
    """A data set and how it is cut into tasks of disjoint classes.

    tfds_name: the name that `tfds.builder` takes, e.g. 'cifar10', 'imagenet_resized/32x32' or 'cifar10:3.0.2'.
    num_tasks, classes_per_task: the first num_tasks * classes_per_task classes are used, in label order.
    image_size: images become image_size x image_size x 3.
    images_per_task: training images of a task, the mean where tasks differ.
    fit: how they get that size: 'none' (they have it already), 'pad' (centred in zeros) or 'resize' (bilinear).
    train_split, test_split: TFDS splits; slices such as 'train[:80%]' work too.
    image_key, label_key: the features that hold the image and the class.
    mean, std: of each channel, for images scaled to [0, 1]. The official code uses those of CIFAR-10 on every data set
        except MNIST and Fashion-MNIST (item 14 of docs/fidelity.md).
    replay_mean, replay_std: the same for images that come from the replay buffer.
    """

    tfds_name: str
    num_tasks: int
    classes_per_task: int
    image_size: int
    images_per_task: int
    fit: str = "none"
    train_split: str = "train"
    test_split: str = "test"
    image_key: str = "image"
    label_key: str = "label"
    mean: Colour = CIFAR10_MEAN
    std: Colour = CIFAR10_STD
    replay_mean: Colour = CIFAR10_MEAN
    replay_std: Colour = CIFAR10_STD


def _grey(name: str, mean: float, std: float) -> Benchmark:
    """Returns the benchmark of a data set of 28x28 grey images, which are padded by 2 pixels on every side."""
    centre, spread = (mean,) * 3, (std,) * 3
    return Benchmark(
        name,
        num_tasks=5,
        classes_per_task=2,
        image_size=32,
        images_per_task=12000,
        fit="pad",
        mean=centre,
        std=spread,
        replay_mean=centre,
        replay_std=spread,
    )


def _quick(name: str, num_tasks: int, classes_per_task: int, images_per_task: int) -> Benchmark:
    """Returns a benchmark for two CPU cores: two fifths of the training images, at 16 pixels a side."""
    return Benchmark(name, num_tasks, classes_per_task, 16, images_per_task, fit="resize", train_split="train[:40%]")


BENCHMARKS: dict[str, Benchmark] = {
    "cifar10": Benchmark("cifar10", num_tasks=5, classes_per_task=2, image_size=32, images_per_task=10000),
    "cifar100": Benchmark("cifar100", num_tasks=20, classes_per_task=5, image_size=32, images_per_task=2500),
    "cifar10_16px": _quick("cifar10", num_tasks=5, classes_per_task=2, images_per_task=4000),
    "cifar100_16px": _quick("cifar100", num_tasks=20, classes_per_task=5, images_per_task=1000),
    "tiny_imagenet": Benchmark(  # the first 100 of its 200 classes; its official test split has no labels
        "tiny_imagenet",
        num_tasks=20,
        classes_per_task=5,
        image_size=64,
        images_per_task=2500,
        test_split="validation",
        replay_mean=(0.4802, 0.4480, 0.3975),  # its own, as in the official code
        replay_std=(0.2770, 0.2691, 0.2821),
    ),
    "digits": Benchmark("digits", num_tasks=5, classes_per_task=2, image_size=8, images_per_task=288),
    "mnist": _grey("mnist", 0.1, 0.2752),
    "fashion_mnist": _grey("fashion_mnist", 0.2190, 0.3318),
    "svhn_cropped": Benchmark("svhn_cropped", num_tasks=5, classes_per_task=2, image_size=32, images_per_task=14651),
}
