"""The settings of each objective: one function for each, which takes the name of the benchmark.

Benchmarks for two CPU cores have smaller heads.
"""

from typing import Any


def sized(benchmark: str, paper: int, quick: int, digits: int) -> int:
    """Returns the size of a head's layer: that of the paper, of CIFAR at 16 pixels, or of the embedded digits."""
    return {"cifar10_16px": quick, "cifar100_16px": quick, "digits": digits}.get(benchmark, paper)


def simsiam(benchmark: str) -> dict[str, Any]:
    """Returns the settings of SimSiam (Chen and He 2021)."""
    return dict(
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the projector's hidden layer
        output_dim=sized(benchmark, 2048, 512, 256),  # size of a projection
        predictor_dim=sized(benchmark, 512, 128, 64),  # units of the predictor's hidden layer
    )


def barlow_twins(benchmark: str) -> dict[str, Any]:
    """Returns the settings of Barlow Twins (Zbontar et al. 2021)."""
    return dict(
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the projector's hidden layer
        output_dim=sized(benchmark, 2048, 512, 256),  # size of a projection
        off_diagonal=5e-3,  # lambda, the weight of the redundancy term; the loss is not scaled
    )


def byol(benchmark: str) -> dict[str, Any]:
    """Returns the settings of BYOL (Grill et al. 2020), sizes and momentum as in CaSSLe's code."""
    return dict(
        hidden_dim=sized(benchmark, 4096, 1024, 512),  # units of the projector's hidden layer
        output_dim=sized(benchmark, 256, 64, 128),  # size of a projection
        predictor_dim=sized(benchmark, 4096, 1024, 512),  # units of the predictor's hidden layer
        momentum=0.99,  # momentum of the target's moving average at the start of a task
        final_momentum=1.0,  # momentum at the end of a task; it follows a cosine in between
        first_update="late",  # late | at_once: CaSSLe's code updates no target in the first step of a task
    )


def supervised(benchmark: str) -> dict[str, Any]:
    """Returns the settings of cross-entropy with one linear head over all classes (the paper's SCL)."""
    return dict(
        classes=100,  # outputs of the linear head, on every data set
        projector=False,  # whether to put the projector of other objectives between backbone and head
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of that projector's hidden layer
        output_dim=sized(benchmark, 2048, 512, 256),  # size of its output
    )


OBJECTIVES = {"simsiam": simsiam, "barlow_twins": barlow_twins, "byol": byol, "supervised": supervised}
