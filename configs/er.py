"""ER, experience replay: stored examples are replayed beside each batch (Chaudhry et al. 2019, tiny memories).

    python launch.py --config=configs/er.py
    python launch.py --config=configs/er.py:cifar100,barlow_twins
    python launch.py --config=configs/er.py:digits,supervised                 # embedded data

Stores 256 images.

Not in the paper's tables. Results on small data: docs/results.md.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of ER for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="er",
        method=dict(
            name="er",
            buffer_size=256,  # images
            policy="reservoir",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="presentations",
            # strong | weak: replayed images are shown as present ones are, or only cropped and flipped.
            replay_view="weak" if objective == "supervised" else "strong",
        ),
    )
