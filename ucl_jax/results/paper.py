"""Holds the numbers that the paper reports: Madaan et al., ICLR 2022, Tables 1 and 2 (arXiv 2110.06976).

Every number is a mean and a deviation over three runs.
"""

from typing import NamedTuple

# The data sets of Table 2, in its order.
DATASETS = ("mnist", "fashion_mnist", "svhn_cropped", "cifar10", "cifar100")


class Value(NamedTuple):
    """A mean and its deviation over three runs, in per cent (accuracy) or points (forgetting)."""

    mean: float
    deviation: float


class PaperRow(NamedTuple):
    """A row of Table 1: average accuracy by kNN within the task, and forgetting where the paper gives it."""

    accuracy: Value
    forgetting: Value | None


# (benchmark, objective, recipe) -> average accuracy and forgetting, by kNN within the task.
TABLE1: dict[tuple[str, str, str], PaperRow] = {
    ("cifar10", "supervised", "finetune"): PaperRow(Value(82.87, 0.47), Value(14.26, 0.52)),
    ("cifar10", "supervised", "pnn"): PaperRow(Value(82.74, 2.12), None),
    ("cifar10", "supervised", "si"): PaperRow(Value(85.18, 0.65), Value(11.39, 0.77)),
    ("cifar10", "supervised", "agem"): PaperRow(Value(82.41, 1.24), Value(13.82, 1.27)),
    ("cifar10", "supervised", "gss"): PaperRow(Value(89.49, 1.75), Value(7.50, 1.52)),
    ("cifar10", "supervised", "der"): PaperRow(Value(91.35, 0.46), Value(5.65, 0.35)),
    ("cifar10", "supervised", "multitask"): PaperRow(Value(97.77, 0.15), None),
    ("cifar10", "simsiam", "finetune"): PaperRow(Value(90.11, 0.12), Value(5.42, 0.08)),
    ("cifar10", "simsiam", "pnn"): PaperRow(Value(90.93, 0.22), None),
    ("cifar10", "simsiam", "si"): PaperRow(Value(92.75, 0.06), Value(1.81, 0.21)),
    ("cifar10", "simsiam", "der"): PaperRow(Value(91.22, 0.30), Value(4.63, 0.26)),
    ("cifar10", "simsiam", "lump"): PaperRow(Value(91.00, 0.40), Value(2.92, 0.53)),
    ("cifar10", "simsiam", "multitask"): PaperRow(Value(95.76, 0.08), None),
    ("cifar10", "barlow_twins", "finetune"): PaperRow(Value(87.72, 0.32), Value(4.08, 0.56)),
    ("cifar10", "barlow_twins", "pnn"): PaperRow(Value(87.52, 0.33), None),
    ("cifar10", "barlow_twins", "si"): PaperRow(Value(90.21, 0.08), Value(2.03, 0.22)),
    ("cifar10", "barlow_twins", "der"): PaperRow(Value(88.67, 0.24), Value(2.41, 0.26)),
    ("cifar10", "barlow_twins", "lump"): PaperRow(Value(90.31, 0.30), Value(1.13, 0.18)),
    ("cifar10", "barlow_twins", "multitask"): PaperRow(Value(95.48, 0.14), None),
    ("cifar100", "supervised", "finetune"): PaperRow(Value(61.08, 0.04), Value(31.23, 0.41)),
    ("cifar100", "supervised", "pnn"): PaperRow(Value(66.05, 0.86), None),
    ("cifar100", "supervised", "si"): PaperRow(Value(63.58, 0.37), Value(27.98, 0.34)),
    ("cifar100", "supervised", "agem"): PaperRow(Value(59.81, 1.07), Value(30.08, 0.91)),
    ("cifar100", "supervised", "gss"): PaperRow(Value(70.78, 1.67), Value(21.28, 1.52)),
    ("cifar100", "supervised", "der"): PaperRow(Value(79.52, 1.88), Value(12.80, 1.47)),
    ("cifar100", "supervised", "multitask"): PaperRow(Value(93.89, 0.78), None),
    ("cifar100", "simsiam", "finetune"): PaperRow(Value(75.42, 0.78), Value(10.19, 0.37)),
    ("cifar100", "simsiam", "pnn"): PaperRow(Value(66.58, 1.00), None),
    ("cifar100", "simsiam", "si"): PaperRow(Value(80.08, 1.30), Value(5.54, 1.30)),
    ("cifar100", "simsiam", "der"): PaperRow(Value(77.27, 0.30), Value(9.31, 0.09)),
    ("cifar100", "simsiam", "lump"): PaperRow(Value(82.30, 1.35), Value(4.71, 1.52)),
    ("cifar100", "simsiam", "multitask"): PaperRow(Value(86.31, 0.38), None),
    ("cifar100", "barlow_twins", "finetune"): PaperRow(Value(71.97, 0.54), Value(9.45, 1.01)),
    ("cifar100", "barlow_twins", "pnn"): PaperRow(Value(57.93, 2.98), None),
    ("cifar100", "barlow_twins", "si"): PaperRow(Value(75.04, 0.63), Value(7.43, 0.67)),
    ("cifar100", "barlow_twins", "der"): PaperRow(Value(73.48, 0.53), Value(7.98, 0.29)),
    ("cifar100", "barlow_twins", "lump"): PaperRow(Value(80.24, 1.04), Value(3.53, 0.83)),
    ("cifar100", "barlow_twins", "multitask"): PaperRow(Value(87.16, 0.52), None),
    ("tiny_imagenet", "supervised", "finetune"): PaperRow(Value(53.10, 1.37), Value(33.15, 1.22)),
    ("tiny_imagenet", "supervised", "pnn"): PaperRow(Value(64.38, 0.92), None),
    ("tiny_imagenet", "supervised", "si"): PaperRow(Value(44.96, 2.41), Value(26.29, 1.40)),
    ("tiny_imagenet", "supervised", "agem"): PaperRow(Value(60.45, 0.24), Value(24.94, 1.24)),
    ("tiny_imagenet", "supervised", "gss"): PaperRow(Value(70.96, 0.72), Value(14.76, 1.22)),
    ("tiny_imagenet", "supervised", "der"): PaperRow(Value(68.03, 0.85), Value(17.74, 0.65)),
    ("tiny_imagenet", "supervised", "multitask"): PaperRow(Value(91.79, 0.46), None),
    ("tiny_imagenet", "simsiam", "finetune"): PaperRow(Value(71.07, 0.20), Value(9.48, 0.56)),
    ("tiny_imagenet", "simsiam", "pnn"): PaperRow(Value(62.15, 1.35), None),
    ("tiny_imagenet", "simsiam", "si"): PaperRow(Value(72.34, 0.42), Value(8.26, 0.64)),
    ("tiny_imagenet", "simsiam", "der"): PaperRow(Value(71.90, 1.44), Value(8.36, 2.06)),
    ("tiny_imagenet", "simsiam", "lump"): PaperRow(Value(76.66, 2.39), Value(3.54, 1.04)),
    ("tiny_imagenet", "simsiam", "multitask"): PaperRow(Value(82.89, 0.49), None),
    ("tiny_imagenet", "barlow_twins", "finetune"): PaperRow(Value(66.28, 1.23), Value(8.89, 0.66)),
    ("tiny_imagenet", "barlow_twins", "pnn"): PaperRow(Value(48.70, 2.59), None),
    ("tiny_imagenet", "barlow_twins", "si"): PaperRow(Value(56.96, 1.48), Value(17.04, 0.89)),
    ("tiny_imagenet", "barlow_twins", "der"): PaperRow(Value(68.56, 1.47), Value(7.87, 0.44)),
    ("tiny_imagenet", "barlow_twins", "lump"): PaperRow(Value(72.17, 0.89), Value(2.43, 1.00)),
    ("tiny_imagenet", "barlow_twins", "multitask"): PaperRow(Value(82.42, 0.74), None),
}

# (benchmark trained on, objective, recipe) -> the other data set -> kNN accuracy over all its classes.
TABLE2: dict[tuple[str, str, str], dict[str, Value]] = {
    ("cifar10", "supervised", "finetune"): {
        "mnist": Value(86.42, 1.11),
        "fashion_mnist": Value(74.47, 0.84),
        "svhn_cropped": Value(41.00, 0.85),
        "cifar100": Value(17.42, 0.96),
    },
    ("cifar10", "supervised", "si"): {
        "mnist": Value(87.08, 0.79),
        "fashion_mnist": Value(76.41, 0.81),
        "svhn_cropped": Value(42.62, 1.31),
        "cifar100": Value(19.14, 0.91),
    },
    ("cifar10", "supervised", "agem"): {
        "mnist": Value(86.07, 1.94),
        "fashion_mnist": Value(74.74, 3.21),
        "svhn_cropped": Value(37.77, 3.49),
        "cifar100": Value(16.11, 0.38),
    },
    ("cifar10", "supervised", "gss"): {
        "mnist": Value(70.36, 3.54),
        "fashion_mnist": Value(69.20, 2.51),
        "svhn_cropped": Value(33.11, 2.26),
        "cifar100": Value(18.21, 0.39),
    },
    ("cifar10", "supervised", "der"): {
        "mnist": Value(80.32, 1.91),
        "fashion_mnist": Value(70.49, 1.54),
        "svhn_cropped": Value(41.48, 2.76),
        "cifar100": Value(17.72, 0.25),
    },
    ("cifar10", "supervised", "multitask"): {
        "mnist": Value(88.79, 1.13),
        "fashion_mnist": Value(79.50, 0.52),
        "svhn_cropped": Value(41.26, 1.95),
        "cifar100": Value(27.68, 0.66),
    },
    ("cifar10", "simsiam", "finetune"): {
        "mnist": Value(89.23, 0.99),
        "fashion_mnist": Value(80.05, 0.34),
        "svhn_cropped": Value(49.66, 0.81),
        "cifar100": Value(34.52, 0.12),
    },
    ("cifar10", "simsiam", "si"): {
        "mnist": Value(93.72, 0.58),
        "fashion_mnist": Value(82.50, 0.51),
        "svhn_cropped": Value(57.88, 0.16),
        "cifar100": Value(36.21, 0.69),
    },
    ("cifar10", "simsiam", "der"): {
        "mnist": Value(88.35, 0.82),
        "fashion_mnist": Value(79.33, 0.62),
        "svhn_cropped": Value(48.83, 0.55),
        "cifar100": Value(30.68, 0.36),
    },
    ("cifar10", "simsiam", "lump"): {
        "mnist": Value(91.03, 0.22),
        "fashion_mnist": Value(80.78, 0.88),
        "svhn_cropped": Value(45.18, 1.57),
        "cifar100": Value(31.17, 1.83),
    },
    ("cifar10", "simsiam", "multitask"): {
        "mnist": Value(90.69, 0.13),
        "fashion_mnist": Value(80.65, 0.42),
        "svhn_cropped": Value(47.67, 0.45),
        "cifar100": Value(39.55, 0.18),
    },
    ("cifar10", "barlow_twins", "finetune"): {
        "mnist": Value(86.86, 1.62),
        "fashion_mnist": Value(78.37, 0.74),
        "svhn_cropped": Value(44.64, 2.39),
        "cifar100": Value(28.03, 0.52),
    },
    ("cifar10", "barlow_twins", "si"): {
        "mnist": Value(90.31, 0.69),
        "fashion_mnist": Value(80.58, 0.68),
        "svhn_cropped": Value(49.18, 0.51),
        "cifar100": Value(31.80, 0.40),
    },
    ("cifar10", "barlow_twins", "der"): {
        "mnist": Value(85.15, 2.19),
        "fashion_mnist": Value(77.96, 0.59),
        "svhn_cropped": Value(45.68, 0.93),
        "cifar100": Value(27.83, 0.86),
    },
    ("cifar10", "barlow_twins", "lump"): {
        "mnist": Value(88.73, 0.54),
        "fashion_mnist": Value(81.69, 0.45),
        "svhn_cropped": Value(51.53, 0.41),
        "cifar100": Value(31.53, 0.36),
    },
    ("cifar10", "barlow_twins", "multitask"): {
        "mnist": Value(88.63, 1.38),
        "fashion_mnist": Value(79.49, 0.29),
        "svhn_cropped": Value(49.24, 2.44),
        "cifar100": Value(36.33, 0.29),
    },
    ("cifar100", "supervised", "finetune"): {
        "mnist": Value(75.02, 3.97),
        "fashion_mnist": Value(62.37, 3.20),
        "svhn_cropped": Value(38.05, 0.73),
        "cifar10": Value(39.18, 0.83),
    },
    ("cifar100", "supervised", "si"): {
        "mnist": Value(79.96, 2.63),
        "fashion_mnist": Value(63.71, 1.36),
        "svhn_cropped": Value(40.92, 1.64),
        "cifar10": Value(40.41, 1.71),
    },
    ("cifar100", "supervised", "agem"): {
        "mnist": Value(77.56, 3.21),
        "fashion_mnist": Value(64.16, 2.29),
        "svhn_cropped": Value(37.48, 1.73),
        "cifar10": Value(37.91, 1.33),
    },
    ("cifar100", "supervised", "gss"): {
        "mnist": Value(76.54, 0.46),
        "fashion_mnist": Value(65.31, 1.72),
        "svhn_cropped": Value(35.72, 2.37),
        "cifar10": Value(49.41, 1.81),
    },
    ("cifar100", "supervised", "der"): {
        "mnist": Value(87.71, 2.23),
        "fashion_mnist": Value(75.97, 1.29),
        "svhn_cropped": Value(50.26, 0.95),
        "cifar10": Value(59.07, 1.06),
    },
    ("cifar100", "supervised", "multitask"): {
        "mnist": Value(92.29, 3.37),
        "fashion_mnist": Value(86.12, 1.87),
        "svhn_cropped": Value(54.94, 1.77),
        "cifar10": Value(54.04, 3.68),
    },
    ("cifar100", "simsiam", "finetune"): {
        "mnist": Value(85.99, 0.86),
        "fashion_mnist": Value(76.90, 0.11),
        "svhn_cropped": Value(50.09, 1.41),
        "cifar10": Value(57.15, 0.96),
    },
    ("cifar100", "simsiam", "si"): {
        "mnist": Value(91.50, 1.26),
        "fashion_mnist": Value(80.57, 0.93),
        "svhn_cropped": Value(54.07, 2.73),
        "cifar10": Value(60.55, 2.54),
    },
    ("cifar100", "simsiam", "der"): {
        "mnist": Value(87.96, 2.04),
        "fashion_mnist": Value(76.21, 0.63),
        "svhn_cropped": Value(47.70, 0.94),
        "cifar10": Value(56.26, 0.16),
    },
    ("cifar100", "simsiam", "lump"): {
        "mnist": Value(91.76, 1.17),
        "fashion_mnist": Value(81.61, 0.45),
        "svhn_cropped": Value(50.13, 0.71),
        "cifar10": Value(63.00, 0.53),
    },
    ("cifar100", "simsiam", "multitask"): {
        "mnist": Value(90.35, 0.24),
        "fashion_mnist": Value(81.11, 1.86),
        "svhn_cropped": Value(52.20, 0.61),
        "cifar10": Value(70.19, 0.15),
    },
    ("cifar100", "barlow_twins", "finetune"): {
        "mnist": Value(76.08, 2.86),
        "fashion_mnist": Value(76.82, 0.83),
        "svhn_cropped": Value(42.95, 0.90),
        "cifar10": Value(53.12, 0.13),
    },
    ("cifar100", "barlow_twins", "si"): {
        "mnist": Value(85.24, 0.99),
        "fashion_mnist": Value(78.82, 0.67),
        "svhn_cropped": Value(45.18, 1.37),
        "cifar10": Value(53.99, 0.56),
    },
    ("cifar100", "barlow_twins", "der"): {
        "mnist": Value(78.08, 1.95),
        "fashion_mnist": Value(76.67, 0.68),
        "svhn_cropped": Value(44.58, 1.01),
        "cifar10": Value(53.24, 0.82),
    },
    ("cifar100", "barlow_twins", "lump"): {
        "mnist": Value(90.22, 1.39),
        "fashion_mnist": Value(81.28, 0.91),
        "svhn_cropped": Value(50.24, 0.95),
        "cifar10": Value(60.76, 0.87),
    },
    ("cifar100", "barlow_twins", "multitask"): {
        "mnist": Value(86.98, 1.70),
        "fashion_mnist": Value(79.40, 1.10),
        "svhn_cropped": Value(50.19, 0.81),
        "cifar10": Value(49.50, 0.38),
    },
}
