"""Prepare TFDS data sets as ArrayRecord: `python -m ucl_jax.data.prepare NAME... [--data_dir DIR] [--manual_dir DIR]`.

The project's own data sets (`OWN`) need no TensorFlow. The official ones need it this once: their builders read
and encode with it.
"""

import argparse
import contextlib
import difflib
import fcntl
import importlib
import importlib.util
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import TypeAlias

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants, read_only_builder

from ucl_jax.errors import UsageError

Builder: TypeAlias = tfds.core.DatasetBuilder

# Name -> the module that registers it with TFDS. They are imported when they are needed only.
OWN = {"digits": "ucl_jax.data.digits", "tiny_imagenet": "ucl_jax.data.tiny_imagenet"}
# Name -> the lowest version that is read, and what is wrong with those below it.
LOWEST = {
    "tiny_imagenet": (
        tfds.core.Version("2.0.0"),
        "its labels followed the sorted wnids, so that its first 100 classes are not the paper's",
    )
}
# What TFDS raises for a missing configuration or version and for a source that is out of reach, missing or wrong.
BUILD_ERRORS = (
    OSError,
    ValueError,
    AssertionError,
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
)


def base_name(tfds_name: str) -> str:
    """The name without configuration and version: 'imagenet_resized' of 'imagenet_resized/32x32:0.1.0'."""
    return tfds_name.split("/")[0].split(":")[0]


def has_tensorflow() -> bool:
    """Whether TensorFlow can be imported."""
    return importlib.util.find_spec("tensorflow") is not None


def resolve_data_dir(data_dir: str | None) -> str:
    """The given folder, else the one of TFDS ($TFDS_DATA_DIR or ~/tensorflow_datasets)."""
    return os.path.expanduser(data_dir or str(constants.DATA_DIR))


def find_prepared(tfds_name: str, data_dir: str | None = None) -> Builder | None:
    """The data set as it lies on disk, in its highest version unless the name says otherwise; None where it does not.

    No code of the data set is needed for this, so anybody's TFDS data set can be read.

    Raises:
        UsageError: what lies there is damaged or cannot be read; it, or the version that the name asks for, is below
            `LOWEST`.
    """
    builder = _on_disk(tfds_name, data_dir)
    if not (reason := _outdated(tfds_name, builder)):
        return builder
    base, _, asked = tfds_name.partition(":")
    raise UsageError(
        f"'{base}:{asked or builder.version}' is too old: {reason}; prepare it anew: "
        f"python -m ucl_jax.data.prepare {base} --data_dir={resolve_data_dir(data_dir)}"
        + (f", and ask for {base} without a version" if asked else "")
    )


def _on_disk(tfds_name: str, data_dir: str | None) -> Builder | None:
    try:
        return read_only_builder.builder_from_files(tfds_name, data_dir=resolve_data_dir(data_dir))
    except ValueError:  # TFDS: not found, or no name at all
        return None
    except OSError as error:
        raise UsageError(
            f"cannot read '{tfds_name}' in {resolve_data_dir(data_dir)} ({_one_line(error)}): put that right, or "
            "remove it, and prepare it anew"
        ) from error
    except Exception as error:  # of its JSON files
        raise UsageError(
            f"'{tfds_name}' in {resolve_data_dir(data_dir)} is damaged ({_one_line(error)}): remove it, and prepare "
            "it anew"
        ) from error


def _outdated(tfds_name: str, builder: Builder | None) -> str | None:
    """What is wrong with the version that lies on disk or, where none does, is asked for; None: nothing."""
    lowest, reason = LOWEST.get(base_name(tfds_name), ("0.0.0", ""))
    version = builder.version if builder else tfds_name.partition(":")[2]
    return reason if tfds.core.Version.is_valid(version) and tfds.core.Version(version) < lowest else None


def check_known(tfds_name: str) -> None:
    """Raise a UsageError with near matches for a name that neither TFDS nor the project knows."""
    base = base_name(tfds_name)
    known = sorted({*tfds.list_builders(with_community_datasets=False), *OWN})
    if base not in known:
        near = difflib.get_close_matches(base, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see https://www.tensorflow.org/datasets/catalog"
        raise UsageError(f"unknown TFDS data set '{tfds_name}': {hint}")


def prepare(tfds_name: str, data_dir: str | None = None, manual_dir: str | None = None) -> Builder:
    """Prepare a data set as ArrayRecord unless it is prepared already, and return it for reading.

    One process prepares a data set at a time; another waits, and takes the result.

    Raises:
        UsageError: unknown name; TensorFlow is needed and missing; the source is out of reach or wrong; what lies
            there is damaged.
    """
    data_dir = resolve_data_dir(data_dir)
    if manual_dir and not os.path.isdir(os.path.expanduser(manual_dir)):
        raise UsageError(f"--manual_dir {manual_dir} is no folder")
    # A copy that is too old does not count, unless its version was asked for: then find_prepared refuses it.
    old = _outdated(tfds_name, _on_disk(tfds_name, data_dir))
    if (":" in tfds_name or not old) and (builder := find_prepared(tfds_name, data_dir)):
        return builder
    check_known(tfds_name)
    if module := OWN.get(base_name(tfds_name)):
        importlib.import_module(module)
    elif not has_tensorflow():
        raise UsageError(
            f"preparing '{tfds_name}' needs TensorFlow this once: run pip install '.[prepare]' and try again"
        )
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir and os.path.expanduser(manual_dir), try_download_gcs=False
    )
    try:
        with _alone(pathlib.Path(data_dir) / base_name(tfds_name)):
            builder = tfds.builder(tfds_name, data_dir=data_dir, file_format="array_record")
            if module:
                _remove_leftovers(builder.data_path)
            builder.download_and_prepare(download_config=config)
    except BUILD_ERRORS as error:
        raise UsageError(
            f"cannot prepare '{tfds_name}' in {data_dir}: {_one_line(error)}; check the folder and the network, "
            "or put the source files into a folder and give it as --manual_dir"
        ) from error
    if not (prepared := find_prepared(tfds_name, data_dir)):
        raise UsageError(f"{builder.data_path} is damaged, its features.json cannot be read: remove it and try again")
    return prepared


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Make a folder, and keep other processes out of this block as long as it lasts; they wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is preparing {folder}: waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Remove what killed preparations into `folder` have left beside it.

    For the project's own data sets, under `_alone`: others are prepared by TFDS itself too, perhaps at this moment.
    """
    for path in folder.parent.glob(f"{constants.INCOMPLETE_PREFIX}*_{folder.name}"):
        shutil.rmtree(path)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def main(arguments: list[str] | None = None) -> int:
    """Command line. Returns the exit status: 2 and one line on standard error for what a person can mend."""
    parser = argparse.ArgumentParser("python -m ucl_jax.data.prepare", description="Prepare TFDS data sets.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"any TFDS name, or {', '.join(OWN)}")
    parser.add_argument("--data_dir", help="where prepared data goes; default: the folder of TFDS")
    parser.add_argument("--manual_dir", help="folder with source files that are on disk already")
    args = parser.parse_args(arguments)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        for name in args.names:
            builder = prepare(name, args.data_dir, args.manual_dir)
            sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
            print(f"{name}: {sizes} as {builder.info.file_format.value} in {builder.data_path}")
    except UsageError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
