"""DER and DER++: outputs on stored examples are held to what they were when stored (Buzzega et al. 2020)."""

import jax
import jax.numpy as jnp

from ucl_jax.errors import check_word
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import past_or_present, rehearsal, stand_in
from ucl_jax.objectives import Objective
from ucl_jax.types import Aux, Variables


def der(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
    alpha: float,
    beta: float,
    target: str,
    replay_from: str,
    count: str,
) -> Method:
    """Learns the objective on the present, plus a squared error of outputs for weak views of stored examples.

    The target is the output for the first present view, in the step in which the example was stored.

    Args:
      objective: what is learned.
      scenario: its number of tasks is for the policy.
      buffer_size: slots, at least 1.
      policy: a name of `BUFFERS`; "reservoir" in the official code.
      alpha: weight of the mean squared error, at least 0.
      beta: weight of the objective on a second sample of the past, at least 0; above 0 in DER++, 0 in DER.
      target: the outputs: "features" of the backbone, as in the official code without labels; or "output": the
        projections (the paper's text) or, for a supervised objective, the logits (code and text).
      replay_from: see `rehearsal`; "buffer" in the official code.
      count: see `rehearsal`; "presentations" in the official code.

    Raises:
      ValueError: `target` or an argument of the buffer has an unknown value.
    """
    check_word("target", target, ("features", "output"))

    def outputs(embedding):
        return getattr(embedding, target).astype(jnp.float32)

    def keep(batch, network):
        view = objective.views(None, batch, "plain").image[0]
        return outputs(objective.embed(network, view, False)[0])

    after_target = ("predictor",) if target == "output" else ("projector", "predictor")  # modules after the target

    def join_statistics(after, before):
        """Joins running statistics: `after` the replay for modules up to the target, `before` it for those after."""

        def choose_leaf(path, new, old):
            return old if any(getattr(key, "key", None) in after_target for key in path) else new

        return jax.tree_util.tree_map_with_path(choose_leaf, after, before)

    store = rehearsal(buffer_size, policy=policy, tasks=scenario.tasks, replay_from=replay_from, count=count, keep=keep)

    def recall(memory, key, n):
        return [store.recall(memory, k, n) for k in jax.random.split(key)[: 1 + (beta > 0)]]

    def loss(params, state, memory, batch, recalled, keys, clock):
        views, some = objective.views(keys.example, batch, "present"), store.has_past(memory)
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        first = jax.tree.map(lambda x: x[0], aux.outputs)  # outputs for the first view
        weak = objective.views(keys.past, recalled[0].items.batch, "replayed").image[0]
        now, after = objective.embed(Variables(params.network, aux.state), weak, True)
        penalty = jnp.where(some, alpha * jnp.mean(jnp.square(outputs(now) - recalled[0].items.kept)), 0.0)
        state = past_or_present(join_statistics(after, aux.state), aux.state, some)
        if beta > 0:
            again = objective.views(keys.method, recalled[1].items.batch, "present")
            again = past_or_present(again, stand_in(views, len(recalled[1].slot)), some)
            replayed, last = objective.loss(Variables(params.network, state), again, clock)
            penalty += jnp.where(some, beta * replayed, 0.0)
            state = past_or_present(last.state, state, some)
        return value + penalty, Aux(state=state, metrics=aux.metrics | {"penalty": penalty}, outputs=outputs(first))

    return Method(
        init=store.init,
        loss=loss,
        recall=recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
        samples=lambda present, past: present + past * (1 + (beta > 0)),
        needs_boundaries=store.needs_boundaries,
    )
