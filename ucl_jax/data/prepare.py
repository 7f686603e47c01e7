"""Prepare TFDS data sets as ArrayRecord: `python -m ucl_jax.data.prepare NAME... [--data_dir DIR] [--manual_dir DIR]`.

The project's own data sets (`OWN`) need no TensorFlow. The official ones need it this once: their builders read
and encode with it.
"""

import argparse
import difflib
import importlib
import importlib.util
import os
import sys

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants, read_only_builder

from ucl_jax.errors import UsageError

Builder = tfds.core.DatasetBuilder

# Name -> the module that registers it with TFDS. They are imported when they are needed only.
OWN = {"digits": "ucl_jax.data.digits", "tiny_imagenet": "ucl_jax.data.tiny_imagenet"}
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
    """
    try:
        return read_only_builder.builder_from_files(tfds_name, data_dir=resolve_data_dir(data_dir))
    except ValueError:  # TFDS: not found, or no name at all
        return None


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

    Raises:
        UsageError: unknown name; TensorFlow is needed and missing; the source is out of reach or wrong.
    """
    data_dir = resolve_data_dir(data_dir)
    if manual_dir and not os.path.isdir(os.path.expanduser(manual_dir)):
        raise UsageError(f"--manual_dir {manual_dir} is no folder")
    if builder := find_prepared(tfds_name, data_dir):
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
        builder = tfds.builder(tfds_name, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare(download_config=config)
    except BUILD_ERRORS as error:
        raise UsageError(
            f"cannot prepare '{tfds_name}' in {data_dir}: {_one_line(error)}; check the folder and the network, "
            "or put the source files into a folder and give it as --manual_dir"
        ) from error
    return find_prepared(tfds_name, data_dir)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def main(arguments: list[str] | None = None) -> int:
    """Command line. Returns the exit status: 2 and one line on standard error for what a person can mend."""
    parser = argparse.ArgumentParser("python -m ucl_jax.data.prepare", description="Prepare TFDS data sets.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"any TFDS name, or {', '.join(OWN)}")
    parser.add_argument("--data_dir", help="where prepared data goes; default: the folder of TFDS")
    parser.add_argument("--manual_dir", help="folder with source files that are on disk already")
    args = parser.parse_args(arguments)
    try:
        for name in args.names:
            builder = prepare(name, args.data_dir, args.manual_dir)
            sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
            print(f"{name}: {sizes} as {builder.info.file_format.value} in {builder.data_path}")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
