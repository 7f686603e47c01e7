"""Lists the benchmarks: what each data set is, and how it is cut into tasks.

It is pure data and cheap to import. Recipes take these values into their config trees (`configs/base.py`). Probes look
up here the data sets that a run was not trained on.
"""

from typing import NamedTuple

IN_MEMORY = "memory:"  # begins what stands for the path of a folder in a run on images in memory

Colour = tuple[float, float, float]

CIFAR10_MEAN: Colour = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: Colour = (0.2470, 0.2435, 0.2615)

# Orders of classes; "label", which is not among them, is 0, 1, 2 and so on. That of "cassle" is torch.randperm(100)
# under seed 5, by which the codes of CaSSLe, PFR and PNR cut CIFAR-100 and ImageNet-100 into tasks. It was computed
# once, with torch 2.13.0. That of "superclass" has the five classes of each superclass of CIFAR-100 together, as the
# structured order of Osiris has.
CLASS_ORDERS: dict[str, tuple[int, ...]] = {
    "cassle": (
        11, 22, 39, 23, 42, 30, 78, 81, 64, 20, 29, 79, 15, 69, 86, 63, 55, 53, 73, 68, 89, 67, 58, 97, 96, 92, 37,
        14, 75, 51, 54, 7, 3, 6, 50, 40, 45, 4, 83, 98, 27, 12, 8, 99, 60, 87, 28, 5, 84, 34, 82, 16, 72, 49, 59, 31,
        71, 35, 66, 76, 61, 17, 36, 62, 13, 2, 38, 94, 80, 19, 25, 18, 0, 1, 46, 74, 85, 91, 52, 77, 21, 33, 32, 88,
        93, 70, 44, 47, 26, 57, 90, 95, 48, 65, 43, 10, 9, 56, 24, 41,
    ),
    "superclass": (
        4, 30, 55, 72, 95, 1, 32, 67, 73, 91, 54, 62, 70, 82, 92, 9, 10, 16, 28, 61, 0, 51, 53, 57, 83, 22, 39, 40,
        86, 87, 5, 20, 25, 84, 94, 6, 7, 14, 18, 24, 3, 42, 43, 88, 97, 12, 17, 37, 68, 76, 23, 33, 49, 60, 71, 15,
        19, 21, 31, 38, 34, 63, 64, 66, 75, 26, 45, 77, 79, 99, 2, 11, 35, 46, 98, 27, 29, 44, 78, 93, 36, 50, 65, 74,
        80, 47, 52, 56, 59, 96, 8, 13, 48, 58, 90, 41, 69, 81, 85, 89,
    ),
}  # fmt: skip


class Benchmark(NamedTuple):
    """A data set and how it is cut into tasks.

    Attributes:
      tfds_name: the name that `tfds.builder` takes, e.g. 'cifar10', 'imagenet_resized/32x32' or 'cifar10:3.0.2'; "" for
        a folder of images.
      num_tasks, classes_per_task: the tasks, and the classes of each; 0 where the folder tells.
      image_size: images become image_size x image_size x 3.
      images_per_task: training images of a task, the mean where tasks differ.
      order: what a task is: 'class', classes of its own, or 'data', a random part of the images of the same classes.
      class_order: the order of classes; the first of it are used. 'label', or a name in `CLASS_ORDERS`.
      fit: how they get that size: 'none' (they have it already), 'pad' (centred in zeros), 'resize' (bilinear) or
        'crop' (bilinear, of the square in the middle).
      train_split, test_split: TFDS splits; slices such as 'train[:80%]' work too.
      image_key, label_key: the features that hold the image and the class.
      mean, std: of each channel, for images scaled to [0, 1]. The official code uses those of CIFAR-10 on every data
        set except MNIST and Fashion-MNIST (item 14 of docs/fidelity.md).
      replay_mean, replay_std: the same for images that come from the replay buffer.
      validation_fraction: the part of the training images that is held out for evaluation; 0 where there is a test
        split.
    """

    tfds_name: str
    num_tasks: int
    classes_per_task: int
    image_size: int
    images_per_task: int
    order: str = "class"
    class_order: str = "label"
    fit: str = "none"
    train_split: str = "train"
    test_split: str = "test"
    image_key: str = "image"
    label_key: str = "label"
    mean: Colour = CIFAR10_MEAN
    std: Colour = CIFAR10_STD
    replay_mean: Colour = CIFAR10_MEAN
    replay_std: Colour = CIFAR10_STD
    validation_fraction: float = 0.0

    @property
    def num_classes(self) -> int:
        """Returns the number of classes that are used."""
        return self.classes_per_task * (self.num_tasks if self.order == "class" else 1)


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


def _common(name: str, num_tasks: int, order: str = "class") -> Benchmark:
    """Returns a benchmark of CaSSLe's code: CIFAR-100, or ImageNet-100 at 224 pixels."""
    cifar = name == "cifar100"
    mean: Colour = (0.4914, 0.4822, 0.4465) if cifar else (0.485, 0.456, 0.406)
    std: Colour = (0.247, 0.243, 0.261) if cifar else (0.229, 0.224, 0.225)
    return Benchmark(
        name,
        num_tasks,
        classes_per_task=100 // num_tasks if order == "class" else 100,
        image_size=32 if cifar else 224,
        images_per_task=(50_000 if cifar else 126_689) // num_tasks,  # of the subset that most papers take
        order=order,
        class_order="cassle",
        fit="none" if cifar else "resize",
        test_split="test" if cifar else "validation",
        mean=mean,
        std=std,
        replay_mean=mean,
        replay_std=std,
    )


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
    # The common protocol of CaSSLe, PFR and PNR. TFDS has no imagenet100: any data set of 100 classes that is prepared
    # under this name serves.
    "cifar100_5x20": _common("cifar100", num_tasks=5),
    "cifar100_10x10": _common("cifar100", num_tasks=10),
    "cifar100_data5": _common("cifar100", num_tasks=5, order="data"),
    "imagenet100": _common("imagenet100", num_tasks=5),
    "imagenet100_data5": _common("imagenet100", num_tasks=5, order="data"),
    "folder": Benchmark(  # anybody's images; mean and deviation are those of ImageNet
        "",
        num_tasks=0,
        classes_per_task=0,
        image_size=32,
        images_per_task=0,
        fit="crop",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        replay_mean=(0.485, 0.456, 0.406),
        replay_std=(0.229, 0.224, 0.225),
        validation_fraction=0.1,
    ),
}
