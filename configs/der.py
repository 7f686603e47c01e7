"""DER, dark experience replay: outputs on stored examples must stay as they were (Buzzega et al. 2020).

    python launch.py --config=configs/der.py
    python launch.py --config=configs/der.py:cifar100,barlow_twins
    python launch.py --config=configs/der.py:digits,supervised                 # embedded data

Stores 256 images, an output each.

Without labels the outputs are features of the backbone, as in the official code, or projections with
`--config.method.target=output`. With labels they are logits.

Table 1, accuracy / forgetting within the task, 3 seeds:
                  cifar10                   cifar100                  tiny_imagenet
    supervised    91.35±0.46 / 5.65±0.35    79.52±1.88 / 12.80±1.47   68.03±0.85 / 17.74±0.65
    simsiam       91.22±0.30 / 4.63±0.26    77.27±0.30 / 9.31±0.09    71.90±1.44 / 8.36±2.06
    barlow_twins  88.67±0.24 / 2.41±0.26    73.48±0.53 / 7.98±0.29    68.56±1.47 / 7.87±0.44
Not yet reproduced here at full size. What was measured is in docs/results.md.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of DER for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="der",
        method=dict(
            name="der",
            buffer_size=256,  # images
            policy="reservoir",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="presentations",
            # Weight of the error between new and stored outputs; 0.1 and 0.01 are from memory of the paper's appendix,
            # not checked.
            alpha=0.01 if benchmark == "tiny_imagenet" else 0.1,
            beta=0.0,  # weight of the objective itself on replayed examples; above 0 this is DER++
            # features | output: what must stay as it was, backbone features, or projections (with labels: logits).
            target="output" if objective == "supervised" else "features",
        ),
    )
