"""Makes the config tree of a run from the seven places that hold its values.

    configs/lump.py and the like    a recipe: the settings of its method
    ucl_jax/data/benchmarks.py      a benchmark: its data set, tasks, mean and deviation of pixels
    configs/benchmarks.py           a benchmark: crops, width, epochs, batch size, learning rate
    configs/objectives.py           an objective: sizes of its heads and weights of its loss
    configs/protocols.py            a protocol: optimiser, schedule, augmentation, stem, online linear probe
    configs/streams.py              a stream: in which order images come
    this file                       what is the same for all of them

Each key is written in only one of these places: Python raises a TypeError if two of them give the same key. But the
protocol `cassle` replaces values of the benchmark and of the objective by its own, and a stream replaces values of the
sections `benchmark`, `stream` and `train`. With the protocol `ucl`, where the
paper has such a setting, the value is the one that produced its Table 1; docs/fidelity.md says how well each of them is
known. Types and ranges are in ucl_jax/settings.py.

`python launch.py --config=configs/lump.py:digits --print_config` prints a whole tree.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.benchmarks import BENCHMARKS
from configs.objectives import OBJECTIVES
from configs.protocols import PROTOCOLS
from configs.streams import STREAMS
from ucl_jax.data.benchmarks import BENCHMARKS as DATA
from ucl_jax.errors import require, user_choice
from ucl_jax.settings import shown


def parse(arg: str | None, objective: str = "simsiam") -> tuple[str, str, str, str]:
    """Returns the words of a recipe's argument, `benchmark[,objective[,protocol[,stream]]]`.

    The defaults are cifar10, `objective`, ucl and tasks, the last two for every benchmark.

    Raises:
      UsageError: a word is unknown, for which it lists the known ones, or there are more than four words.
    """
    words = [word.strip()[:60] for word in (arg or "cifar10").split(",")]  # cut, so that a message stays short
    require(
        len(words) <= 4,
        f"config argument {shown(arg)} has {len(words)} words; it is benchmark[,objective[,protocol[,stream]]]",
    )
    benchmark, objective, protocol, stream = words + [objective, "ucl", "tasks"][len(words) - 1 :]
    user_choice("benchmark", benchmark, BENCHMARKS)
    user_choice("objective", objective, OBJECTIVES)
    user_choice("protocol", protocol, PROTOCOLS)
    user_choice("stream", stream, STREAMS)
    return benchmark, objective, protocol, stream


def tree(
    benchmark: str,
    objective: str,
    protocol: str,
    stream: str,
    *,
    recipe: str,
    method: dict[str, Any],
    architecture: str = "resnet18",
    width: int | None = None,
    joint: bool = False,
) -> ConfigDict:
    """Returns the whole config tree of a recipe. It is locked, so that a misspelt override fails.

    Args:
      benchmark: name in `configs.benchmarks.BENCHMARKS`.
      objective: name in `configs.objectives.OBJECTIVES`.
      protocol: name in `configs.protocols.PROTOCOLS`.
      stream: name in `configs.streams.STREAMS`.
      recipe: name of the recipe, for the run folder.
      method: the section `method`: `name`, which is in `ucl_jax.methods.METHODS`, and all settings of that method.
      architecture: name in `ucl_jax.models.architectures.ARCHITECTURES`.
      width: channels of the network's first stage; None takes the benchmark's.
      joint: whether to train on all tasks at once.
    """
    data, sections = DATA[benchmark], PROTOCOLS[protocol](benchmark, objective)
    config: dict[str, Any] = dict(
        recipe=recipe,
        protocol=protocol,  # only a name, for the run folder and for reports
        seed=0,
        init_from="",  # a .pth file of the official code to start from; with train.epochs=0 it is only evaluated
        data_dir="",  # folder of TFDS; "" is its default, $TFDS_DATA_DIR or ~/tensorflow_datasets
        compilation_cache="~/.cache/ucl_jax",  # folder of compiled programs, kept between runs; "" keeps none
        image_cache="~/.cache/ucl_jax/images",  # folder of decoded images, kept between runs; "" decodes into memory
        benchmark=dict(
            name=benchmark,
            tfds_name=data.tfds_name,  # any TFDS image classification data set; "" for a folder of images
            prepare=True,  # download and prepare a missing data set, if it can be done without TensorFlow
            path="",  # a folder of images instead of a TFDS data set; this and the next three are for benchmark folder
            # tasks | classes | domains: what its sub-folders are. Images of tasks have no labels. Domains hold folders
            # of classes, and each is a task, with stream.order=domain.
            folders="classes" if objective == "supervised" else "tasks",
            file_order="name",  # name | time: the order of files; a folder without sub-folders is cut into tasks by it
            validation_path="",  # another folder, for evaluation; "" holds out validation_fraction of the images
            # The first num_tasks * classes_per_task classes (or sub-folders) are used. For a folder, 0 takes all.
            num_tasks=data.num_tasks,
            classes_per_task=data.classes_per_task,
            class_order=data.class_order,  # label | cassle: the order of classes; cassle is that of its code, for 100
            image_size=data.image_size,  # pixels a side
            fit=data.fit,  # none | pad | resize | crop: how stored images come to image_size
            train_split=data.train_split,  # a TFDS split; slices such as train[:80%] work too
            test_split=data.test_split,
            image_key=data.image_key,  # the feature of the data set that holds the image
            label_key=data.label_key,  # the feature that holds the class
            domain_key="",  # the feature that holds the domain, for stream.order=domain
            examples_per_task=0,  # training images of each task (few-shot); 0 is all
            test_examples_per_task=0,  # test images of each task; 0 is all
            # Above 0: probe on a held-out part of the training split, not on the test split.
            validation_fraction=data.validation_fraction,
            # Seed of few-shot and validation subsets, of stream.order=data, and of which classes are large; -1 is the
            # run's seed.
            subset_seed=0,
            class_order_seed=-1,  # seed by which the classes are permuted before they are cut into tasks; -1 is none
            joint=joint,  # one training task made of all
        ),
        stream=dict(
            name=stream,  # only a name, for the run folder and for reports
            # class | data | domain | file: each task has other classes; or a part of the images of the same classes, at
            # random, by benchmark.domain_key, or as they are stored.
            order=data.order,
            imbalance=1.0,  # how many times as many training images the largest class has as the smallest
            imbalance_shape="long_tail",  # long_tail | step: sizes fall from class to class, or half of them are small
            repeat=1,  # how often the tasks go round, each time with another part of their images
            blur=0.0,  # the share of a task that is in a zone in which it mixes with its neighbours
            blur_shape="linear",  # linear | gaussian: how the share of the next task rises in a zone
            correlation=1,  # how often each image comes in a row
            # known | hidden: the method is told of each task, or of the whole stream as one.
            boundaries="known",
            snapshot_every=0,  # with hidden boundaries: a method is told of a new task after so many images; 0 is never
            # The network is evaluated whenever so many more images were shown, and at the end. 0 is at the end of each
            # task that the method is told of. -N is N times, at equal distances.
            evaluate_every=0,
            passes="epochs",  # epochs | one: a task in random order, train.epochs times; or once, in the stream's order
            updates_per_batch=1,  # steps on each batch, one after the other
            replay_per_batch=0,  # stored images that a step recalls; 0 is as many as the batch has
        ),
        augment=dict(
            **sections["augment"],
            mean=data.mean,  # for pixels in [0, 1]; the official code has CIFAR-10's on nearly every data set
            std=data.std,
            replay_mean=data.replay_mean,  # this and the next one: for the weak view of replayed images
            replay_std=data.replay_std,
            # resized | padded: a part of the image, or the whole image moved by some pixels. With labels the official
            # code had resized crops until October 2022, and has padded ones since then.
            crop="resized",
            # The same for the weak view of replayed images. With labels, the code of the paper already had padded ones.
            replay_crop="padded" if objective == "supervised" else "resized",
            jitter_p=0.8,  # probability of the jitter
            gray_p=0.2,  # probability of a grey image
            rounding="none",  # none | pillow: pillow rounds to whole grey levels after each operation, as in the code
        ),
        model=dict(
            # resnet18 | resnet18_group_norm | progressive: one network, the same with group norm and Mish as in Osiris'
            # code, or one column for each task (PNN).
            name=architecture,
            # Channels of the first stage; features are 8 times as many.
            width=sections["model"]["width"] if width is None else width,
            stem=sections["model"]["stem"],
            stem_padding=sections["model"]["stem_padding"],
            dtype="float32",  # float32 | bfloat16: dtype of the computation; parameters and statistics are float32
            # float32 | tensorfloat32 | bfloat16: to what factors are rounded in products of float32. The code has
            # TensorFloat-32 where the GPU has it. A CPU always has float32.
            matmul_precision="tensorfloat32",
        ),
        objective=dict(name=objective, **OBJECTIVES[objective](benchmark) | sections["objective"]),
        method=method,
        train=dict(
            **sections["train"],
            warmup_start=0.003,  # the learning rate of the first epoch of a warm-up, whatever the batch size
            lars_eta=0.02,  # trust coefficient
            lars_clip=True,  # whether the learning rate is only the upper bound of a tensor's own rate
            momentum=0.9,
            devices=0,  # number of devices; 0 is all of this machine, or of all processes
            # Steps that the devices make without the host in between. On CPU more than 1 only take longer to compile.
            steps_per_call=1,
        ),
        eval=dict(
            # With online_linear: none | apart | in_training_mode, a linear probe that is trained beside the network on
            # labelled images of all tasks. They are shown apart from all else, or change the running statistics, too,
            # as in CaSSLe's code. online_linear_rate: its learning rate at batch 256; the rest is as in train.
            **sections["eval"],
            # all | seen: which tasks are evaluated after each task; with all, forgetting takes the best of all rows.
            tasks="all",
            knn_k_rule="fixed",  # fixed | tasks_seen: k, or min(k, number of tasks seen) as in the latest official code
            knn_temperature=0.1,
            knn_search="exact",  # exact | approximate: TPUs find approximate neighbours faster; others find exact ones
            forgetting="max",  # max | first | with_last: the definition that is printed; all three are recorded
            batch_size=512,
            random_init=True,  # also probe the untrained network
        ),
        checkpoint=dict(
            **sections["checkpoint"],
            every_minutes=10.0,  # also save one when so many minutes have passed since the last; 0 saves by steps only
            keep=2,  # number of checkpoints that are kept, the last ones
            networks=True,  # keep the network after every task, for probes
        ),
        log=dict(every_steps=10, tensorboard=True, wandb=False),
    )
    for section, values in STREAMS[stream](benchmark).items():
        config[section] |= values
    return ConfigDict(config).lock()
