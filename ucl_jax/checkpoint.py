"""Checkpoints with Orbax (v1 API): of training, asynchronous, whole and exact; and the network alone, for analysis."""

import pathlib

import jax
import jax.numpy as jnp
from orbax.checkpoint.experimental import v1 as ocp

from ucl_jax.errors import UsageError
from ucl_jax.types import PyTree, TrainState


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


class Networks:
    """The network after every task, without optimiser and buffer: `FOLDER/<tasks learned>`."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def learned(self) -> list[int]:
        """After how many tasks there is a network, ascending."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdigit())

    def save(self, learned: int, params: PyTree, model_state: PyTree) -> None:
        """Saves what `learned` tasks made of the network, whole or not at all, over an earlier one."""
        path = self._folder.absolute() / str(learned)
        ocp.save(path, {"params": params, "model_state": model_state}, overwrite=True)

    def load(self, learned: int, like: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """Parameters and statistics after `learned` tasks.

        `like` are such trees or their ShapeDtypeStructs; their shardings say where the arrays go.

        Raises:
          UsageError: it was not kept, or its files are damaged.
        """
        path = self._folder.absolute() / str(learned)
        if not path.is_dir():
            kept = ", ".join(map(str, self.learned())) or "none"
            raise UsageError(f"there is no network after {learned} tasks in {self._folder}; kept: {kept}")
        try:
            loaded = ocp.load(path, {"params": like[0], "model_state": like[1]})
        except Exception as error:  # whatever Orbax meets in damaged files
            raise UsageError(
                f"the network {path} cannot be read ({type(error).__name__}); remove that folder to do without it"
            ) from error
        return loaded["params"], loaded["model_state"]
