"""SI: parameters that earlier tasks needed are held back (Zenke et al. 2017)."""

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.errors import pick
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.objectives import Objective
from ucl_jax.types import Parameters, Params, Variables

NOT_PROTECTED = ("projector", "predictor")  # of the official code: it protects the backbone, with its linear head


class Importance(flax.struct.PyTreeNode):
    """Trees like the network's parameters.

    omega: importances of past tasks.
    path: what the present task adds to them.
    anchor: where the last task ended.
    """

    omega: Params
    path: Params
    anchor: Params


def si(
    objective: Objective, scenario: Scenario, *, c: float, xi: float, form: str, rate: float, clip: float, protect: str
) -> Method:
    """Adds c * sum of omega * (params - anchor)^2 to the loss; at the end of a task omega += path / (moved^2 + xi).

    Args:
      objective: for the present.
      scenario: of no use to this method.
      c: strength, at least 0.
      xi: damping, above 0.
      form: what a step adds to path, and how. "release" (official code): rate * grad^2, of clipped gradients with the
        penalty. "path_integral" (paper of SI, eq. 3): -grad * change, without the penalty, not below 0 at the end.
        "submission" (official code at the time of the paper): as "release", but the penalty is subtracted, and omega
        overwritten at the end of a task. "overwrite" (that code with the sign put right, until October 2022).
      rate: of the official forms, above 0; they take the base learning rate, 0.03.
      clip: gradients are clipped to [-clip, clip] by value; 0 does not clip. 1 in the official code.
      protect: "backbone", with its linear head where there is one (official code), or "all" parameters.

    Raises:
      ValueError: another form, or other parameters.
    """
    pick("form", form, dict.fromkeys(("release", "path_integral", "submission", "overwrite")))
    skipped = pick("protect", protect, {"backbone": NOT_PROTECTED, "all": ()})
    sign = -1.0 if form == "submission" else 1.0

    def protected(tree):
        def keep(path, leaf):
            return jnp.zeros_like(leaf) if any(getattr(k, "key", None) in skipped for k in path) else leaf

        return jax.tree_util.tree_map_with_path(keep, tree)

    def init(key, batch, network):
        zeros = jax.tree.map(jnp.zeros_like, network.params)
        return (), Importance(zeros, zeros, jax.tree.map(jnp.copy, network.params))

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
        return Parameters(clipped(grads.network), grads.method)

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
        return own, Importance(omega, zeros, jax.tree.map(jnp.copy, network.params))

    return Method(init=init, loss=loss, project=project, observe=observe, end_task=end_task)
