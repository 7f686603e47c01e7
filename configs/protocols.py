"""The protocols, how networks are trained whatever the method: a function for each, of benchmark and objective.

`ucl` is that of the paper. `cassle` is the one that CaSSLe, PFR and PNR share, from the scripts of their codes
(DonkeyShot21/cassle at b5b0929, csm9493/PNR at 123d9c5). All that the two set differently is in this file and in
`configs/benchmarks.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from configs.benchmarks import BENCHMARKS, Sections
from ucl_jax.errors import require

IMAGENET = ("imagenet100", "imagenet100_data5")
STRONG, WEAK = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.2, 0.1)  # jitter of brightness, contrast, saturation and hue


def ucl(benchmark: str, objective: str) -> Sections:
    """Returns the settings of the paper's protocol: SGD at a constant rate, which goes on over the tasks."""
    of = BENCHMARKS[benchmark](objective)
    return of | dict(
        augment=dict(
            **of["augment"],
            jitter=(0.4, 0.4, 0.4, 0.1),  # strengths of brightness, contrast, saturation and hue
            # Probability of a blur in the first view and in the second, or one for both; -1 is 0.5 for images above
            # 32 pixels, else 0.
            blur_p=(-1.0, -1.0),
            solarize_p=(0.0, 0.0),  # probability of a solarisation, likewise
            interpolation="bilinear",  # bilinear | bicubic: of resized crops of the present
        ),
        model=dict(
            **of["model"],
            # cifar: a 3x3 convolution. imagenet: torchvision's 7x7 convolution and max-pool, each of stride 2.
            stem="cifar",
            stem_padding=1,  # zeros on each side of images before the convolution of stem=cifar
        ),
        objective={},
        train=dict(
            **of["train"],
            last_batch="fill",  # fill | drop: a last batch that is not full is filled up, or left out
            optimizer="sgd",  # sgd | lars
            optimizer_state="keep",  # keep | restart: what becomes of momentum at a new task
            schedule="constant",  # constant | cosine: the learning rate over each task
            warmup_epochs=10,  # epochs of each task before the cosine, on a line from warmup_start
            minimum_rate=0.0,  # the learning rate at the end of the cosine, whatever the batch size
            weight_decay=5e-4,  # on all parameters, with lars without those of one dimension if it excludes them
            lars_exclude_1d=True,  # whether lars treats biases and norms as sgd does, without weight decay
        ),
        eval=dict(**of["eval"], online_linear="none", online_linear_rate=0.1),
    )


class Row(NamedTuple):
    """The settings of an objective in CaSSLe's protocol; names are those of the config tree, but for two.

    least_crop: the least area of a crop, as a fraction of the image's.
    objective: settings of the objective itself.
    """

    learning_rate: float
    weight_decay: float
    jitter: tuple[float, float, float, float]
    solarize_p: tuple[float, float] = (0.0, 0.0)
    blur_p: tuple[float, float] = (0.0, 0.0)
    least_crop: float = 0.08
    lars_exclude_1d: bool = True
    optimizer: str = "lars"
    warmup_epochs: int = 10
    minimum_rate: float = 0.0
    online_linear_rate: float = 0.1
    objective: Mapping[str, Any] = MappingProxyType({})


CASSLE_CIFAR = {
    "simclr": Row(0.4, 1e-5, STRONG),
    "byol": Row(1.0, 1e-5, WEAK, solarize_p=(0.0, 0.2)),
    "vicreg": Row(0.3, 1e-4, WEAK, solarize_p=(0.1, 0.1), least_crop=0.2, online_linear_rate=0.3),
    "swav": Row(0.6, 1e-6, STRONG, lars_exclude_1d=False, minimum_rate=6e-4),
    "barlow_twins": Row(
        0.3,
        1e-4,
        WEAK,
        solarize_p=(0.0, 0.2),
        objective={"layers": 3, "norm": "hidden", "scale": 0.1, "deviation": "biased"},
    ),
    # Of PNR's scripts.
    "moco": Row(0.6, 1e-4, WEAK, solarize_p=(0.0, 0.2), lars_exclude_1d=False, online_linear_rate=0.3),
    "simsiam": Row(1.0, 1e-5, WEAK, solarize_p=(0.0, 0.2)),  # no script has it: our choice, as BYOL
}
_HALF, _UNEVEN = (0.5, 0.5), (1.0, 0.1)  # probabilities of a blur
CASSLE_IMAGENET = {
    "simclr": CASSLE_CIFAR["simclr"]._replace(weight_decay=1e-4, blur_p=_HALF, objective={"output_dim": 128}),
    "byol": CASSLE_CIFAR["byol"]._replace(learning_rate=0.6, blur_p=_UNEVEN, objective={"predictor_dim": 8192}),
    "vicreg": CASSLE_CIFAR["vicreg"]._replace(learning_rate=0.4, blur_p=_HALF),
    "swav": CASSLE_CIFAR["swav"]._replace(
        learning_rate=0.8, lars_exclude_1d=True, blur_p=_HALF, objective={"queue_epoch": 100, "frozen_epochs": 5}
    ),
    "barlow_twins": CASSLE_CIFAR["barlow_twins"]._replace(learning_rate=0.4, blur_p=_UNEVEN),
    "moco": CASSLE_CIFAR["moco"]._replace(
        learning_rate=0.4, optimizer="sgd", warmup_epochs=0, jitter=(0.4, 0.4, 0.4, 0.1), blur_p=_HALF
    ),
    "simsiam": CASSLE_CIFAR["simsiam"]._replace(learning_rate=0.6, blur_p=_UNEVEN),
}


def cassle(benchmark: str, objective: str) -> Sections:
    """Returns the settings of CaSSLe's protocol: LARS, and for each task a new optimiser, a warm-up and a cosine.

    Raises:
      UsageError: the protocol has no settings for the objective.
    """
    of, imagenet = BENCHMARKS[benchmark](objective), benchmark in IMAGENET
    rows = CASSLE_IMAGENET if imagenet else CASSLE_CIFAR
    require(
        objective in rows,
        f"protocol cassle has no settings for objective {objective}; take protocol ucl, or one of {', '.join(rows)}",
    )
    row = rows[objective]
    return of | dict(
        augment=of["augment"]
        | dict(
            crop_scale=(row.least_crop, 1.0),
            jitter=row.jitter,
            blur_p=row.blur_p,
            solarize_p=row.solarize_p,
            interpolation="bicubic",
        ),
        model=dict(**of["model"], stem="imagenet" if imagenet else "cifar", stem_padding=1 if imagenet else 2),
        objective=dict(row.objective),
        train=dict(
            epochs=400 if imagenet else 500,
            batch_size=256,
            learning_rate=row.learning_rate,
            last_batch="drop",
            optimizer=row.optimizer,
            optimizer_state="restart",
            schedule="cosine",
            warmup_epochs=row.warmup_epochs,
            minimum_rate=row.minimum_rate,
            weight_decay=row.weight_decay,
            lars_exclude_1d=row.lars_exclude_1d,
        ),
        eval=dict(
            **of["eval"],
            online_linear="none" if imagenet or benchmark == "folder" else "in_training_mode",
            online_linear_rate=row.online_linear_rate,
        ),
    )


PROTOCOLS = {"ucl": ucl, "cassle": cassle}
