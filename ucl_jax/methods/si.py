"""SI, synaptic intelligence: parameters that mattered in earlier tasks are held in place (Zenke et al. 2017)."""

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.errors import argument_choice, check_word
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.objectives import Objective
from ucl_jax.types import Params, TrainedParams, Variables

# The official code protects all else: the backbone and the linear head.
NOT_PROTECTED = ("projector", "predictor", "prototypes")


class Importance(flax.struct.PyTreeNode):
    """The memory of SI: three trees with the structure of the network's parameters.

    Attributes:
      omega: how much each parameter mattered in past tasks.
      path: what the present task has summed up so far, to be added to omega at its end.
      anchor: the parameters at the end of the last task.
    """

    omega: Params
    path: Params
    anchor: Params


def si(
    objective: Objective, scenario: Scenario, *, c: float, xi: float, form: str, rate: float, clip: float, protect: str
) -> Method:
    """Adds c * sum of omega * (params - anchor)^2 to the loss; at the end of a task omega += path / (moved^2 + xi).

    Here moved is params - anchor. A negative path counts as 0 at the end of a task.

    Args:
      objective: what is learned.
      scenario: not used.
      c: strength of the penalty, at least 0.
      xi: damping, above 0.
      form: what each step adds to path. "release", the official code: rate * grad^2, with clipped gradients of the loss
        and the penalty. "path_integral", eq. 3 of the paper of SI: -grad * change, with gradients of the loss without
        the penalty. "submission", the official code at the time of the paper: as "release", but the penalty is
        subtracted from the loss, and omega is overwritten at the end of a task. "overwrite", the official code until
        October 2022: as "submission", but the penalty is added.
      rate: used by all forms but "path_integral", above 0; the base learning rate, 0.03, in the official code.
      clip: gradients are clipped by value to [-clip, clip]; 1 in the official code. 0 does not clip.
      protect: "backbone" with its linear head, as in the official code, or "all" parameters.

    Raises:
      ValueError: `form` or `protect` has an unknown value.
    """
    check_word("form", form, ("release", "path_integral", "submission", "overwrite"))
    skipped = argument_choice("protect", protect, {"backbone": NOT_PROTECTED, "all": ()})
    sign = -1.0 if form == "submission" else 1.0

    def protected(tree):
        def keep(path, leaf):
            return jnp.zeros_like(leaf) if any(getattr(k, "key", None) in skipped for k in path) else leaf

        return jax.tree_util.tree_map_with_path(keep, tree)

    def init(key, batch, network):
        zeros = jax.tree.map(jnp.zeros_like, network.params)
        return (), Importance(omega=zeros, path=zeros, anchor=jax.tree.map(jnp.copy, network.params))

    def penalty(params, memory):
        terms = jax.tree.map(lambda o, p, a: jnp.sum(o * jnp.square(p - a)), memory.omega, params, memory.anchor)
        return sign * c * sum(jax.tree.leaves(terms))

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        held = penalty(params.network, memory)
        return value + held, aux._replace(outputs=(), metrics=aux.metrics | {"penalty": held})

    def clipped(grads):
        return jax.tree.map(lambda g: jnp.clip(g, -clip, clip) if clip else g, grads)

    def project(memory, grads, reference):
        return TrainedParams(clipped(grads.network), grads.method)

    def observe(memory, step, key):
        grads, before, after = step.grads.network, step.before.network, step.after.network
        if form == "path_integral":
            pulls = jax.grad(penalty)(before, memory)
            moved = jax.tree.map(jnp.subtract, after, before)
            added = jax.tree.map(lambda g, p, m: -(g - p) * m, grads, pulls, moved)
        else:
            added = jax.tree.map(lambda g: rate * jnp.square(g), clipped(grads))
        return memory.replace(path=jax.tree.map(jnp.add, memory.path, protected(added)))

    def end_task(own, memory, network):
        def importance(old, path, p, anchor):
            new = jnp.maximum(path, 0.0) / (jnp.square(p - anchor) + xi)
            return new if form in ("submission", "overwrite") else old + new

        omega = jax.tree.map(importance, memory.omega, memory.path, network.params, memory.anchor)
        zeros = jax.tree.map(jnp.zeros_like, network.params)
        return own, Importance(omega=omega, path=zeros, anchor=jax.tree.map(jnp.copy, network.params))

    return Method(
        init=init,
        loss=loss,
        project=project,
        observe=observe,
        end_task=end_task,
        needs_boundaries="takes importances at the end of a task",
    )
