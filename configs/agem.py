"""A-GEM: gradients projected so that the past gets no worse, to first order (Chaudhry et al. 2019).

    python launch.py --config=configs/agem.py
    python launch.py --config=configs/agem.py:cifar100,barlow_twins
    python launch.py --config=configs/agem.py:digits,supervised                 # embedded data

The buffer holds `buffer_size // tasks` images of each task that has ended, a uniform sample of its images
(`--config.method.policy=equal_share`, as in the paper of A-GEM and the official code): 51 with 5 tasks, 12 with 20.
`--config.method.policy=reservoir` holds 256 of all images that were offered.

Table 1, accuracy / forgetting within the task, 3 seeds:
                  cifar10                   cifar100                  tiny_imagenet
    supervised    82.41±1.24 / 13.82±1.27   59.81±1.07 / 30.08±0.91   60.45±0.24 / 24.94±1.24
Not yet reproduced here at full size: see the table of results in README.md.
"""

from configs import base


def get_config(arg="cifar10"):
    benchmark, objective = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        recipe="agem",
        method=dict(
            name="agem",
            buffer_size=256,  # images
            policy="equal_share",  # reservoir | equal_share | fifo: which are kept, ucl_jax/buffers
            replay_from="past_tasks",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            count="examples",  # presentations | examples: an image is offered each time it is shown, or once
            # strong | weak: stored images are shown as present ones are, or cropped and flipped only.
            replay_view="weak" if objective == "supervised" else "strong",
        ),
    )
