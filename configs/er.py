"""ER: plain replay of stored examples beside each batch (Chaudhry et al. 2019, "On tiny episodic memories").

    python launch.py --config=configs/er.py
    python launch.py --config=configs/er.py:cifar100,barlow_twins
    python launch.py --config=configs/er.py:digits,supervised                 # embedded data

Not in the paper's tables. Results on small data: README.md.
"""

from configs import base


def get_config(arg="cifar10"):
    benchmark, objective = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        recipe="er",
        method=dict(
            name="er",
            buffer_size=256,  # images
            policy="reservoir",  # reservoir | equal_share | fifo: which are kept, ucl_jax/buffers
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            count="presentations",  # presentations | examples: an image is offered each time it is shown, or once
            # strong | weak: stored images are shown as present ones are, or cropped and flipped only.
            replay_view="weak" if objective == "supervised" else "strong",
        ),
    )
