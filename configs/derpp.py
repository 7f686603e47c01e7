"""DER++: DER, plus the objective itself on a second sample of stored examples (Buzzega et al. 2020).

    python launch.py --config=configs/derpp.py
    python launch.py --config=configs/derpp.py:cifar100,barlow_twins
    python launch.py --config=configs/derpp.py:digits,supervised                 # embedded data

Stores 256 images, an output each.

Not in the paper's tables. Results on small data: docs/results.md.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of DER++ for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="derpp",
        method=dict(
            name="der",
            buffer_size=256,  # images
            policy="reservoir",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="presentations",
            # Weight of the error between new and stored outputs. The numbers are those of DER, which are from memory of
            # the paper's appendix, not checked.
            alpha=0.01 if benchmark == "tiny_imagenet" else 0.1,
            beta=0.5,  # weight of the objective itself on replayed examples; 0 is DER
            # features | output: what must stay as it was, backbone features, or projections (with labels: logits).
            target="output" if objective == "supervised" else "features",
        ),
    )
