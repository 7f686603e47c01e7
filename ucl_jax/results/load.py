"""Reads the files of a run folder, and is the one place where they are checked.

Each function raises UsageError for a file that is missing, is no JSON, or does not have its type in
`ucl_jax.results.schema`; the message is one line that names the file and the place in it. The schema is imported by the
first file that is read, for that takes time, which `--help` should not wait for.
"""

from __future__ import annotations

import math
import os
import pathlib
from typing import TYPE_CHECKING, Any

from ucl_jax import settings
from ucl_jax.errors import UsageError, require

if TYPE_CHECKING:
    from ucl_jax.results.schema import RunResult

# Files that a run or its probes write stay far below these sizes; larger ones are not read into memory.
MOST_BYTES = 2**27
MOST_BYTES_OF_A_LINE = 2**16
ADVICE = "put it right, or take another folder"
LINE_ADVICE = "mend or remove that line"


def load_results(workdir: str | pathlib.Path) -> RunResult:
    """Returns the result of a run, given its folder or the path of a results file, NAME.json.

    Examples:
      >>> import ucl_jax
      >>> results = ucl_jax.load_results("runs/lump-digits-simsiam-seed0")
      >>> results.recipe, results.finished, sorted(results.probes)
      ('lump', True, ['knn_all', 'knn_task'])

    Raises:
      UsageError: there is no such file, or it is damaged.
    """
    path = pathlib.Path(workdir)
    path = path if path.suffix == ".json" else path / "results.json"
    require(path.exists(), f"{workdir} is no run folder with a results.json, or no run there has finished a task")
    return read_results(path)


def find_runs(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the run folders at or below a folder, sorted. It does not look into a run folder for others."""
    found = []
    for place, folders, files in os.walk(folder):
        if "results.json" in files or {"config.json", "lock"} <= set(files):
            found.append(pathlib.Path(place))
            folders.clear()
    return sorted(found)


def read_results(path: pathlib.Path) -> RunResult:
    """Returns the result that a results.json holds.

    Raises:
      UsageError: it cannot be read, is of another version, or is damaged.
    """
    from ucl_jax.results.schema import OtherVersion, RunResult

    content = _parse(path, _read(path))
    try:
        return RunResult.from_json(content)
    except OtherVersion as error:
        raise UsageError(f"{path} {error}; run it again, or read it with the program that wrote it") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def read_saved_config(path: pathlib.Path) -> dict[str, Any]:
    """Returns the config tree that a config.json holds; what is a tuple in a recipe is a list there.

    Raises:
      UsageError: it cannot be read, is damaged, or holds a value that `ucl_jax.settings` does not allow.
    """
    content = _parse(path, _read(path))
    if not isinstance(content, dict):
        raise _damaged(path, "it is no JSON object")
    settings.check(content, f"{path}: config")
    return content


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the entries of a metrics.jsonl, without a last line that is incomplete because the run was killed.

    Raises:
      UsageError: it cannot be read, or a line is damaged.
    """
    from ucl_jax.results import fields, schema

    entries: list[dict[str, Any]] = []
    try:
        with path.open("rb") as file:
            while (line := file.readline(MOST_BYTES_OF_A_LINE)).endswith(b"\n"):
                where = f"{path}, line {len(entries) + 1}"
                entry = _parse(where, line, LINE_ADVICE)
                try:
                    for kind in (schema.AnyEntry, schema.MetricsEntry):
                        fields.read_as(kind, entry)
                except ValueError as error:
                    raise _damaged(where, str(error), LINE_ADVICE) from error
                entries.append(entry)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); {ADVICE}") from error
    if len(line) == MOST_BYTES_OF_A_LINE:
        raise _damaged(f"{path}, line {len(entries) + 1}", f"it is longer than {len(line)} bytes", LINE_ADVICE)
    return entries


def _read(path: pathlib.Path) -> bytes:
    """Returns the content of a file; raises UsageError where it cannot be read or is larger than MOST_BYTES."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); {ADVICE}") from error
    if len(data) > MOST_BYTES:
        raise _damaged(path, f"it is larger than {MOST_BYTES // 2**20} MiB")
    return data


def _parse(where: str | pathlib.Path, data: bytes, advice: str = ADVICE) -> Any:
    """Returns what JSON text in UTF-8 holds, at most 200 levels deep and with finite numbers only."""
    from pydantic_core import from_json

    try:
        content = from_json(data, allow_inf_nan=False)
        _require_finite(content)
    except ValueError as error:
        raise _damaged(where, str(error), advice) from error
    return content


def _require_finite(tree: Any) -> None:
    """Raises ValueError where a tree holds a number too large for a float, such as 1e400."""
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, list):
        tree = [tree]
    for value in tree:
        if isinstance(value, dict | list):
            _require_finite(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number is out of range")


def _damaged(where: str | pathlib.Path, reason: str, advice: str = ADVICE) -> UsageError:
    """Returns the error about a damaged file or line."""
    reason = reason if len(reason) <= 300 else f"{reason[:150]} ... {reason[-150:]}"  # it may quote much of the file
    return UsageError(f"{where} is damaged ({reason}); {advice}")
