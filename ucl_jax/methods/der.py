"""DER and DER++: the network's outputs on stored examples stay as they were (Buzzega et al. 2020)."""

import jax
import jax.numpy as jnp

from ucl_jax.errors import choose
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import past_or_present, rehearsal
from ucl_jax.objectives import Objective


def der(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    alpha: float,
    beta: float,
    target: str,
    replay_from: str,
    count: str,
) -> Method:
    """The objective on the present, and a squared error of outputs on weak views of the past.

    Targets are outputs for the first (strong) view, taken in the step in which the example is stored.

    Args:
      objective: for the present.
      scenario: of no use to this method.
      buffer_size: slots of the reservoir, at least 1.
      alpha: weight of the mean squared error, at least 0.
      beta: DER++: weight of the objective itself on a second sample of the past, at least 0; 0 is DER.
      target: "features" of the backbone (the official code without labels), or "output": the projection of an
        objective without labels (the text), the logits of a supervised one (code and text).
      replay_from, count: see `rehearsal`; the official code has "buffer" and "presentations".

    Raises:
      UsageError: another target, or another word for the buffer.
    """
    choose("config.method.target", target, dict.fromkeys(("features", "output")))

    def outputs(embedding):
        return getattr(embedding, target).astype(jnp.float32)

    def keep(batch, params, model_state):
        view = jax.tree.leaves(objective.plain_views(batch))[0]
        return outputs(objective.embed(params, model_state, view, False)[0])

    beyond = ("predictor",) if target == "output" else ("projector", "predictor")  # modules that give no target

    def ran_in(after, before):
        """Joins statistics: those `after` the replay of modules that give the target, of others those `before` it."""

        def pick(path, new, old):
            return old if any(getattr(key, "key", None) in beyond for key in path) else new

        return jax.tree_util.tree_map_with_path(pick, after, before)

    store = rehearsal(buffer_size, replay_from=replay_from, count=count, keep=keep)

    def recall(memory, key, n):
        return [store.recall(memory, k, n) for k in jax.random.split(key)[: 1 + (beta > 0)]]

    def loss(params, model_state, memory, batch, past, keys):
        views, some = objective.views(keys.example, batch), store.any(memory)
        value, aux = objective.loss(params, model_state, views)
        weak = objective.weak_view(keys.past, past[0].batch.image)
        now, after = objective.embed(params, aux.model_state, weak, True)
        penalty = jnp.where(some, alpha * jnp.mean(jnp.square(outputs(now) - past[0].kept)), 0.0)
        model_state = past_or_present(ran_in(after, aux.model_state), aux.model_state, some)
        if beta > 0:
            again = past_or_present(objective.views(keys.method, past[1].batch), views, some)
            replayed, last = objective.loss(params, model_state, again)
            penalty += jnp.where(some, beta * replayed, 0.0)
            model_state = past_or_present(last.model_state, model_state, some)
        aux = aux._replace(model_state=model_state, extras=outputs(aux.extras))
        return value + penalty, aux._replace(metrics=aux.metrics | {"penalty": penalty})

    return Method(loss=loss, **(store.parts | {"recall": recall}))
