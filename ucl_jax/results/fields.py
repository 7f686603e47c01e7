"""Holds what the types of result files are made of: numbers with ranges, checks of shapes, and reading from JSON."""

import functools
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ucl_jax.errors import check_argument

# Whole numbers are limited to those that a float64 holds exactly, measured ones to the range of a float32.
Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Positive = Annotated[int, Field(strict=True, ge=1, le=2**53)]
Number = Annotated[float, Field(strict=True, ge=-3.5e38, le=3.5e38)]
NotNegative = Annotated[float, Field(strict=True, ge=0, le=3.5e38)]
AboveZero = Annotated[float, Field(strict=True, gt=0, le=3.5e38)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Points = Annotated[float, Field(strict=True, ge=-100, le=100)]  # a difference of two accuracies
Seconds = Annotated[float, Field(strict=True, ge=0, le=1e10)]
Channel = Annotated[int, Field(strict=True, ge=0, le=255)]  # of a pixel
Text = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]  # no control characters but tabs and line ends
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]

Accuracies = Annotated[list[Percent | None], Field(min_length=1)]  # one a task; null where it was not evaluated
AccuracyMatrix = Annotated[list[Accuracies], Field(min_length=1)]  # [rows, tasks], a row after each task learned
NumberMatrix = Annotated[list[list[Number | None]], Field(min_length=1)]
StageName = Literal["stem", "stage1", "stage2", "stage3", "stage4"]


def require_shape(name: str, rows: Sequence[Sequence[Any]], height: int, width: int) -> None:
    """Raises ValueError unless `rows` is a matrix [height, width]."""
    check_argument(len(rows) == height, f"`{name}` has {len(rows)} rows, not {height}")
    for place, row in enumerate(rows):
        check_argument(len(row) == width, f"row {place} of `{name}` has {len(row)} entries, not {width}")


def require_keys(name: str, given: Collection[str], wanted: Sequence[str]) -> None:
    """Raises ValueError unless the dict `name` has the wanted keys."""
    missing = [key for key in wanted if key not in given]
    check_argument(not missing, f"`{name}` lacks {', '.join(missing)}")


def require_known(name: str, values: Sequence[Any]) -> None:
    """Raises ValueError if no value of the list `name` is known."""
    check_argument(any(value is not None for value in values), f"`{name}` has no number")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def read_as(kind: Any, content: Any, place: tuple[str | int, ...] = ()) -> Any:
    """Returns parsed JSON as a type of this module.

    Args:
      kind: the type.
      content: what a JSON file, or a part of it, holds.
      place: the keys and indices that lead to this part in the file.

    Raises:
      ValueError: the content does not have the type; names the first wrong place, such as
        `$.probes.knn_task.matrix[1][0]`, and what is wrong there.
    """
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in (*place, *first["loc"]))
        raise ValueError(f"${''.join(keys)}: {first['msg']}") from error
