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
        layers=2,  # affine layers of the projector; 3 in CaSSLe's code
        norm="all",  # all | hidden: the projector has batch norm after all layers, or after all but the last (CaSSLe)
        off_diagonal=5e-3,  # lambda, the weight of the redundancy term
        scale=1.0,  # of the whole loss; 0.1 in CaSSLe's code
        deviation="unbiased",  # unbiased | biased: what projections are divided by; biased in CaSSLe's code
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


def simclr(benchmark: str) -> dict[str, Any]:
    """Returns the settings of SimCLR (Chen et al. 2020) as in CaSSLe's code."""
    return dict(
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the projector's hidden layer
        output_dim=sized(benchmark, 256, 64, 64),  # size of a projection; 128 for ImageNet-100 in CaSSLe's code
        temperature=0.2,
    )


def vicreg(benchmark: str) -> dict[str, Any]:
    """Returns the settings of VICReg (Bardes et al. 2022) as in CaSSLe's code."""
    return dict(
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the projector's two hidden layers
        output_dim=sized(benchmark, 2048, 512, 256),  # size of a projection
        similarity=25.0,  # weight of the difference between views
        variance=25.0,  # weight of deviations below 1
        covariance=1.0,  # weight of covariances between dimensions
    )


def moco(benchmark: str) -> dict[str, Any]:
    """Returns the settings of MoCo v2+ (He et al. 2020; Chen et al. 2020) as in the code of CaSSLe and PNR."""
    return dict(
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the projector's hidden layer
        output_dim=sized(benchmark, 128, 64, 64),  # size of a projection
        temperature=0.2,
        queue_size=sized(benchmark, 65536, 4096, 512),  # images whose keys are kept as negatives
        momentum=0.99,  # momentum of the target's moving average at the start of a task
        final_momentum=0.999,  # momentum at the end of a task; it follows a cosine in between
        first_update="late",  # late | at_once: the code updates no target in the first step of a task
    )


def swav(benchmark: str) -> dict[str, Any]:
    """Returns the settings of SwAV (Caron et al. 2020) as in CaSSLe's code."""
    return dict(
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the projector's hidden layer
        output_dim=sized(benchmark, 128, 64, 64),  # size of a projection
        prototypes=sized(benchmark, 3000, 300, 100),
        temperature=0.1,  # of the predictions
        epsilon=0.05,  # of the assignments; small values give assignments near 0 or 1
        iterations=3,  # of the assignments
        queue_size=sized(benchmark, 3840, 960, 256),  # images whose projections are assigned together with a batch
        queue_epoch=sized(benchmark, 50, 4, 10),  # first epoch of a task that uses the queue, from 0
        frozen_epochs=sized(benchmark, 2, 1, 1),  # first epochs of a task, in which prototypes are not trained
    )


def supervised(benchmark: str) -> dict[str, Any]:
    """Returns the settings of cross-entropy with one linear head over all classes (the paper's SCL)."""
    return dict(
        classes=100,  # outputs of the linear head, on every data set
        projector=False,  # whether to put the projector of other objectives between backbone and head
        hidden_dim=sized(benchmark, 2048, 512, 256),  # units of that projector's hidden layer
        output_dim=sized(benchmark, 2048, 512, 256),  # size of its output
    )


OBJECTIVES = {
    "simsiam": simsiam,
    "barlow_twins": barlow_twins,
    "byol": byol,
    "simclr": simclr,
    "vicreg": vicreg,
    "moco": moco,
    "swav": swav,
    "supervised": supervised,
}
