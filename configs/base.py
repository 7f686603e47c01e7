"""The config tree of a run, put together from the four places that hold its values.

    configs/lump.py and the like    a recipe: the settings of its method
    configs/benchmarks.py           a benchmark: data, crops, width, epochs, batch size, learning rate
    configs/objectives.py           an objective: sizes of its heads and weights of its loss
    this file                       what is the same for all of them

A key is written in one of these places only: Python refuses the call where two of them give it. The values are those
that produced Table 1 of the paper where there are such, and docs/fidelity.md says how far each of them is known. Types
and ranges are in ucl_jax/settings.py.

`python launch.py --config=configs/lump.py:digits --print_config` prints a whole tree.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.benchmarks import BENCHMARKS
from configs.objectives import OBJECTIVES
from ucl_jax.errors import choose, require
from ucl_jax.settings import shown


def parse(arg: str | None) -> tuple[str, str]:
    """Returns benchmark and objective of a recipe's argument, `benchmark[,objective]`; the objective may be left out.

    Raises:
      UsageError: a word is not known; names those that are.
    """
    words = [word.strip()[:60] for word in (arg or "cifar10").split(",")]  # a message shows no longer ones
    require(len(words) <= 2, f"config argument {shown(arg)} has {len(words)} words; it is benchmark[,objective]")
    benchmark, objective = (words + ["simsiam"])[:2]
    choose("benchmark", benchmark, BENCHMARKS)
    choose("objective", objective, OBJECTIVES)
    return benchmark, objective


def tree(
    benchmark: str,
    objective: str,
    *,
    recipe: str,
    method: dict[str, Any],
    architecture: str = "resnet18",
    width: int | None = None,
    joint: bool = False,
) -> ConfigDict:
    """Returns the whole tree of a recipe. It is locked, so that a misspelt override fails.

    Args:
      benchmark: name in `configs.benchmarks.BENCHMARKS`.
      objective: name in `configs.objectives.OBJECTIVES`.
      recipe: name of the recipe, for the run folder.
      method: the section `method`: a name in `ucl_jax.methods.METHODS`, and all settings of that method.
      architecture: name in `ucl_jax.models.architectures.ARCHITECTURES`.
      width: channels of the network's first stage; None takes the benchmark's.
      joint: whether to train on all tasks at once.
    """
    of = BENCHMARKS[benchmark](objective)
    config = dict(
        recipe=recipe,
        seed=0,
        init_from="",  # a .pth file of the official code, to start from; with train.epochs=0 it is only evaluated
        data_dir="",  # "" is TFDS's own default: $TFDS_DATA_DIR, else ~/tensorflow_datasets
        compilation_cache="~/.cache/ucl_jax",  # compiled programs, kept between runs; "" keeps none
        benchmark=dict(
            **of["benchmark"],
            train_split="train",  # a TFDS split; slices such as train[:80%] work too
            image_key="image",  # the features of the data set that hold the image
            label_key="label",  # and the class
            examples_per_task=0,  # training images a task (few-shot); 0 is all
            test_examples_per_task=0,
            validation_fraction=0.0,  # above 0: probe on a held-out part of the training split, not on the test split
            subset_seed=0,  # of the few-shot and validation subsets; -1 is the run's seed
            class_order_seed=-1,  # -1 is label order
            joint=joint,  # one training task made of all
        ),
        augment=dict(
            **of["augment"],
            # resized | padded: a part of the image, or all of it moved. With labels the official code has resized
            # crops until October 2022, padded ones since then.
            crop="resized",
            # The same for the weak view of replayed images, which were padded with labels in the code of the paper too.
            replay_crop="padded" if objective == "supervised" else "resized",
            jitter=(0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
            jitter_p=0.8,
            gray_p=0.2,
            blur_p=-1.0,  # -1 is 0.5 above 32 pixels, else 0
            rounding="none",  # none | pillow: pillow comes to whole grey levels after each operation, as in the code
        ),
        model=dict(
            name=architecture,  # resnet18 | progressive: one network, or a column a task (PNN)
            # Channels of the first stage; features are 8 times as many.
            width=of["model"]["width"] if width is None else width,
            dtype="float32",  # float32 | bfloat16: of the computation; parameters and statistics are float32
        ),
        objective=dict(name=objective, **OBJECTIVES[objective](benchmark)),
        method=method,
        train=dict(
            **of["train"],
            momentum=0.9,
            weight_decay=5e-4,  # on every parameter
            devices=0,  # 0 is all of this machine
        ),
        eval=dict(
            **of["eval"],
            tasks="all",  # all | seen: which are evaluated after each task; forgetting takes the best of all rows
            knn_k_rule="fixed",  # fixed | tasks_seen: the present release takes min(k, number of tasks seen)
            knn_temperature=0.1,
            forgetting="max",  # max | first | with_last: the definition that is printed; all are recorded
            batch_size=512,
            random_init=True,  # probe the network before training too
        ),
        checkpoint=dict(
            **of["checkpoint"],
            every_minutes=10.0,  # one is saved when so many minutes have passed since the last, too; 0 is by steps only
            keep=2,  # the last so many
            networks=True,  # for analysis: the network after every task
        ),
        log=dict(every_steps=10, tensorboard=True, wandb=False),
    )
    return ConfigDict(config).lock()
