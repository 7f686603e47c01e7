"""The whole default tree. A recipe is `get_config(arg)` with `arg` = `benchmark[,objective]`.

Every key that exists is written here once, with the value that produced Table 1 of the paper where there is one.
"""

from ml_collections import ConfigDict

from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import choose, require

OBJECTIVES = {
    "simsiam": dict(hidden_dim=2048, output_dim=2048, predictor_dim=512),
    # off_diagonal is lambda, the weight of the redundancy term; the loss is not scaled.
    "barlow_twins": dict(hidden_dim=2048, output_dim=2048, off_diagonal=5e-3),
}

METHODS = {
    "finetune": {},
    "lump": dict(
        buffer_size=256,
        alpha=0.1,  # Beta(alpha, alpha) of the mixup weight; 0.4 on Tiny-ImageNet
        replay_pair="frozen",  # frozen | fresh: is the second replayed view the stored one, or made anew as in the text
        mix_with="buffer",  # buffer | past_tasks: all that is stored, or earlier tasks only as in the text
        mix_per="batch",  # batch | example: one mixup weight for each
        count="presentations",  # presentations | examples: what the reservoir counts
    ),
}


def get_config(arg: str, method: str, recipe: str | None = None, joint: bool = False, **settings) -> ConfigDict:
    """The default tree for `arg`, locked: a misspelt override fails.

    Args:
      arg: `benchmark[,objective]`, such as "cifar10" or "cifar100,barlow_twins".
      method: name in `ucl_jax.methods.METHODS`.
      recipe: name of the recipe, for the run folder; None takes the method's.
      joint: train on all tasks at once (multitask).
      **settings: of the method, over those in METHODS above.

    Raises:
      UsageError: a word that is not known, with those that are.
    """
    words = [word.strip() for word in (arg or "cifar10").split(",")]
    require(len(words) <= 2, f"config argument {arg!r} has {len(words)} words; it is benchmark[,objective]")
    name, objective = (words + ["simsiam"])[:2]
    facts = choose("benchmark", name, BENCHMARKS)
    tiny = name == "tiny_imagenet"
    small = name == "digits"  # the embedded data set: sized so that two CPU cores need a minute

    config = ConfigDict()
    config.recipe = recipe or method
    config.seed = 0
    config.data_dir = ""  # "" is TFDS's own default: $TFDS_DATA_DIR, else ~/tensorflow_datasets

    config.compilation_cache = "~/.cache/ucl_jax"  # compiled programs, kept between runs; "" keeps none

    config.benchmark = dict(
        name=name,
        tfds_name=facts.tfds_name,  # any TFDS image classification data set
        num_tasks=facts.num_tasks,
        classes_per_task=facts.classes_per_task,
        image_size=facts.image_size,
        fit=facts.fit,  # none | pad | resize: how stored images come to image_size
        train_split=facts.train_split,
        test_split=facts.test_split,
        image_key=facts.image_key,
        label_key=facts.label_key,
        examples_per_task=0,  # training images a task (few-shot); 0 is all
        test_examples_per_task=0,
        validation_fraction=0.0,  # above 0: probe on a held-out part of the training split, not on the test split
        subset_seed=0,  # of the few-shot and validation subsets
        class_order_seed=-1,  # -1 is label order
        joint=joint,  # one training task made of all
    )
    config.augment = dict(
        crop_scale=(0.6, 1.0) if small else (0.2, 1.0),
        flip=0.0 if small else 0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
        jitter_p=0.8,
        gray_p=0.2,
        blur_p=-1.0,  # -1 is 0.5 above 32 pixels, else 0
        mean=facts.mean,
        std=facts.std,
        replay_crop_scale=(0.6, 1.0) if small else (0.08, 1.0),  # the weak view of replayed images
        replay_mean=facts.replay_mean,
        replay_std=facts.replay_std,
    )
    config.model = dict(
        width=16 if small else 64,  # channels of the first stage; features are 8 times as many
        dtype="float32",  # float32 | bfloat16: of the computation; parameters and statistics are float32
    )
    config.objective = dict(name=objective, **choose("objective", objective, OBJECTIVES))
    config.method = dict(name=method, **METHODS.get(method, {}) | settings)
    config.train = dict(
        epochs=200,  # a task
        batch_size=256,  # over all devices
        learning_rate=0.03,  # at batch 256; scaled by batch_size / 256, constant over time
        momentum=0.9,
        weight_decay=5e-4,  # on every parameter
        devices=0,  # 0 is all of this machine
    )
    config.eval = dict(
        tasks="seen",  # seen | all: after each task
        knn_k=200,
        knn_k_rule="fixed",  # fixed | tasks_seen: the present release takes min(k, number of tasks seen)
        knn_temperature=0.1,
        forgetting="max",  # max | first | with_last: the definition that is printed; all are recorded
        batch_size=512,
        random_init=True,  # probe the network before training too
    )
    config.checkpoint = dict(every_steps=1000, keep=2)
    config.log = dict(every_steps=10, tensorboard=True, wandb=False)

    if tiny and "alpha" in config.method:
        config.method.alpha = 0.4
    if small:
        config.train.update(epochs=60, batch_size=64, learning_rate=0.25)
        config.objective.update(hidden_dim=256, output_dim=256)
        if "predictor_dim" in config.objective:
            config.objective.predictor_dim = 64
        config.eval.knn_k = 20
        config.checkpoint.every_steps = 100
    return config.lock()
