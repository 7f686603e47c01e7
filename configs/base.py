"""The whole default tree. A recipe is `get_config(arg)` with `arg` = `benchmark[,objective]`.

Every key that exists is written here once, with the value that produced Table 1 of the paper where there is one.
"""

from ml_collections import ConfigDict

from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import choose, require

# Settings of each objective.
OBJECTIVES = {
    "simsiam": dict(hidden_dim=2048, output_dim=2048, predictor_dim=512),
    # off_diagonal is lambda, the weight of the redundancy term; the loss is not scaled.
    "barlow_twins": dict(hidden_dim=2048, output_dim=2048, off_diagonal=5e-3),
    "supervised": dict(
        classes=100,  # outputs of the linear head, on every data set
        projector=False,  # True: the projector of the other objectives between backbone and head
        hidden_dim=2048,  # of that projector
        output_dim=2048,
    ),
}

REHEARSAL = dict(
    buffer_size=256,
    policy="reservoir",  # reservoir | equal_share | fifo: which examples are kept, ucl_jax/buffers
    replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
    count="presentations",  # presentations | examples: an image is offered each time it is shown, or once
)

# Settings of each method.
METHODS = {
    "finetune": {},
    "si": dict(
        c=0.1,  # strength of the penalty
        xi=1.0,  # damping
        form="release",  # release | path_integral | submission | overwrite: how importance is measured, methods/si.py
        rate=0.03,  # of the official forms: importance is rate * grad^2; they take the base learning rate
        clip=1.0,  # of gradients, by value; 0 does not clip
        protect="backbone",  # backbone | all: which parameters are held back
    ),
    "agem": dict(
        REHEARSAL,
        policy="equal_share",  # buffer_size // tasks of each task
        replay_from="past_tasks",
        count="examples",
        replay_view="strong",
    ),
    "gss": dict(
        {key: value for key, value in REHEARSAL.items() if key != "policy"},  # its own
        replay_view="strong",
        compare=0,  # stored examples whose gradients a new one's is compared with; 0 is as many as a batch has
    ),
    # strong | weak: stored images are shown as present ones are, or cropped and flipped only; with labels weak.
    "er": dict(REHEARSAL, replay_view="strong"),
    "der": dict(
        REHEARSAL,
        alpha=0.1,  # weight of the error between outputs now and then
        beta=0.0,  # above 0 it is DER++: weight of the objective itself on replayed examples
        target="features",  # features | output: of the backbone, or projections / logits
    ),
    "lump": dict(
        REHEARSAL,
        alpha=0.1,  # Beta(alpha, alpha) of the mixup weight
        replay_pair="frozen",  # frozen | fresh: is the second replayed view the stored one, or made anew as in the text
        mix_per="batch",  # batch | example: one mixup weight for each
        mix_labels="lambda",  # lambda | release: labels mixed as images are, or by the official code's formula
    ),
}

# What the paper has for one data set; (method, key) or (architecture, "width").
TUNED = {
    "cifar10": {("si", "c"): 100.0, ("progressive", "width"): 64},
    "digits": {("si", "c"): 10.0},  # 100 makes the penalty oscillate
    "cifar100": {("si", "c"): 0.1, ("progressive", "width"): 12},
    "tiny_imagenet": {
        ("lump", "alpha"): 0.4,
        ("si", "c"): 0.01,
        ("der", "alpha"): 0.01,
        ("progressive", "width"): 8,
    },
}


def get_config(
    arg: str,
    method: str,
    recipe: str | None = None,
    architecture: str = "resnet18",
    joint: bool = False,
    **settings,
) -> ConfigDict:
    """The default tree for `arg`, locked: a misspelt override fails.

    Args:
      arg: `benchmark[,objective]`, such as "cifar10" or "cifar100,barlow_twins".
      method: name in `ucl_jax.methods.METHODS`.
      recipe: name of the recipe, for the run folder; None takes the method's.
      architecture: name in `ucl_jax.architectures.ARCHITECTURES`.
      joint: train on all tasks at once (multitask).
      **settings: of the method, over those in METHODS above.

    Raises:
      UsageError: a word that is not known, with those that are.
    """
    words = [word.strip() for word in (arg or "cifar10").split(",")]
    require(len(words) <= 2, f"config argument {arg!r} has {len(words)} words; it is benchmark[,objective]")
    name, objective = (words + ["simsiam"])[:2]
    facts = choose("benchmark", name, BENCHMARKS)
    supervised = objective == "supervised"
    small = name == "digits"  # the embedded data set: sized so that two CPU cores need a minute

    config = ConfigDict()
    config.recipe = recipe or method
    config.seed = 0
    config.init_from = ""  # a .pth file of the official code, to start from; with train.epochs=0 it is only evaluated
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
        subset_seed=0,  # of the few-shot and validation subsets; -1 is the run's seed
        class_order_seed=-1,  # -1 is label order
        joint=joint,  # one training task made of all
    )
    config.augment = dict(
        # resized | padded: a part of the image, or all of it moved. With labels the official code has resized crops
        # until October 2022, padded ones since then.
        crop="resized",
        crop_padding=1 if small else 4,  # of padded crops, zeros a side
        crop_scale=(0.6, 1.0) if small else (0.2, 1.0),
        flip=0.0 if small else 0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
        jitter_p=0.8,
        gray_p=0.2,
        blur_p=-1.0,  # -1 is 0.5 above 32 pixels, else 0
        rounding="none",  # none | pillow: pillow comes to whole grey levels after each operation, as in the code
        mean=facts.mean,
        std=facts.std,
        # The weak view of replayed images, likewise: crops were padded with labels, in the code of the paper too.
        replay_crop="padded" if supervised else "resized",
        replay_crop_scale=(0.6, 1.0) if small else (0.08, 1.0),
        replay_mean=facts.replay_mean,
        replay_std=facts.replay_std,
    )
    config.model = dict(
        name=architecture,  # resnet18 | progressive: one network, or a column a task (PNN)
        # Channels of the first stage; features are 8 times as many. Digits: SimSiam fails on some seeds at width 8.
        width=(12 if objective == "simsiam" else 8) if small else 64,
        dtype="float32",  # float32 | bfloat16: of the computation; parameters and statistics are float32
    )
    config.objective = dict(name=objective, **choose("objective", objective, OBJECTIVES))
    config.method = dict(name=method, **METHODS.get(method, {}))
    config.train = dict(
        epochs=50 if supervised else 200,  # a task; 0 only evaluates
        batch_size=32 if supervised else 256,  # over all devices
        # At batch 256: it is scaled by batch_size / 256, and constant over time. Supervised: 0.03 at batch 32.
        learning_rate=0.24 if supervised else 0.03,
        momentum=0.9,
        weight_decay=5e-4,  # on every parameter
        devices=0,  # 0 is all of this machine
    )
    config.eval = dict(
        tasks="all",  # all | seen: which are evaluated after each task; forgetting takes the best of all rows
        knn_k=200,
        knn_k_rule="fixed",  # fixed | tasks_seen: the present release takes min(k, number of tasks seen)
        knn_temperature=0.1,
        forgetting="max",  # max | first | with_last: the definition that is printed; all are recorded
        batch_size=512,
        random_init=True,  # probe the network before training too
    )
    config.checkpoint = dict(
        every_steps=1000,  # to go on from: every so many steps,
        every_minutes=10.0,  # and when so many minutes have passed since the last one; 0 is by steps only
        keep=2,  # the last so many
        networks=True,  # for analysis: the network after every task
    )
    config.log = dict(every_steps=10, tensorboard=True, wandb=False)

    if supervised and method == "der":
        config.method.target = "output"
    if supervised and method == "si":
        config.method.rate = 0.24
    if supervised and "replay_view" in config.method:
        config.method.replay_view = "weak"
    for (owner, key), value in TUNED.get(name, {}).items():
        if owner == method:
            config.method[key] = value
        elif owner == architecture:
            config.model[key] = value
    config.method.update(settings)
    if small:
        config.train.update(epochs=10 if supervised else 40, batch_size=32 if supervised else 64)
        config.train.learning_rate = 0.24 if supervised else 0.25
        config.objective.update(hidden_dim=256, output_dim=256)
        if "predictor_dim" in config.objective:
            config.objective.predictor_dim = 64
        config.eval.knn_k = 20
        config.checkpoint.every_steps = 100
    return config.lock()
