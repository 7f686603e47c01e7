"""Checkpoints with Orbax (v1 API): asynchronous, whole, and exact."""

import pathlib

import jax
import jax.numpy as jnp
from orbax.checkpoint.experimental import v1 as ocp

from ucl_jax.errors import UsageError
from ucl_jax.types import TrainState


class Checkpoints:
    """The checkpoints of a run folder. A context manager: leaving it waits for the last save."""

    def __init__(self, folder: pathlib.Path, keep: int):
        self._folder = folder
        self._checkpointer = ocp.training.Checkpointer(
            folder.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,  # what a killed process left half-written
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._checkpointer.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the latest checkpoint, None when there is none."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, step: int, state: TrainState, record: dict) -> None:
        """Saves in the background. `record` is JSON: what the run has found so far.

        The arrays are copied first, for the next step takes (donates) the state's own.
        """
        self.wait()
        copied = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        self._checkpointer.save_checkpointables_async(
            step, {"state": copied}, custom_metadata=record, overwrite=self.latest_step == step, force=True
        )

    def wait(self) -> None:
        """Until the last save is on disk; raises what went wrong with it."""
        self._checkpointer.wait()

    def restore(self, like: TrainState) -> tuple[TrainState, dict] | None:
        """The latest state and record, None when there is none.

        `like` is a state or its ShapeDtypeStructs; their shardings say where the arrays go.

        Raises:
          UsageError: the files are damaged.
        """
        if (step := self.latest_step) is None:
            return None
        try:
            state = self._checkpointer.load_checkpointables(step, {"state": like})["state"]
            return state, self._checkpointer.metadata(step).custom_metadata
        except Exception as error:  # whatever Orbax meets in damaged files
            folder = self._folder / str(step)
            raise UsageError(
                f"the checkpoint {folder} cannot be read ({type(error).__name__}); "
                "remove that folder to go on from the one before"
            ) from error
