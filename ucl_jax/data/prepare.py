"""Prepares TFDS data sets as ArrayRecord.

The data sets of `OWN` have builders in this project, which need no TensorFlow. The builders of other data sets read and
encode with TensorFlow, so it must be installed when they are prepared; it is not needed afterwards.
"""

import contextlib
import difflib
import fcntl
import importlib.util
import io
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants, naming, read_only_builder, shuffle

from ucl_jax import cli
from ucl_jax.cli import Parser
from ucl_jax.data import cifar, digits, mnist, sources, svhn, tiny_imagenet
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError, require

Builder: TypeAlias = tfds.core.DatasetBuilder

# Data sets with a builder in this project. Those that TFDS has too are the same there: version, features, keys, order.
OWN: dict[str, type[Builder]] = {
    builder.name: builder
    for builder in (
        cifar.Cifar10,
        cifar.Cifar100,
        digits.Digits,
        mnist.Mnist,
        mnist.FashionMnist,
        svhn.SvhnCropped,
        tiny_imagenet.TinyImagenet,
    )
}
CALLS = {
    "cifar10 cifar100": "downloads both, and prepares them in the folder of TFDS",
    "cifar10 --manual_dir=DIR": "without a network: DIR holds cifar-10-binary.tar.gz",
    "imagenet_resized/32x32": "a data set of TFDS; this once it needs pip install 'ucl_jax[prepare]'",
}
# Name -> the lowest version that is accepted, and what is wrong with those below it.
LOWEST = {
    "tiny_imagenet": (
        tfds.core.Version("2.0.0"),
        "its labels followed the sorted wnids, so that its first 100 classes are not the paper's",
    )
}
# What is raised when a configuration or version does not exist, a source cannot be reached or is wrong, or the disk is
# full, for which ArrayRecord raises RuntimeError.
BUILD_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    AssertionError,
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
)


def base_name(tfds_name: str) -> str:
    """Returns a name without configuration and version: 'imagenet_resized' of 'imagenet_resized/32x32:0.1.0'."""
    return tfds_name.split("/")[0].split(":")[0]


def has_tensorflow() -> bool:
    """Tells whether TensorFlow is installed; does not import it."""
    return importlib.util.find_spec("tensorflow") is not None


def resolve_data_dir(data_dir: str | None) -> str:
    """Returns the given folder, or that of TFDS ($TFDS_DATA_DIR or ~/tensorflow_datasets) if none is given."""
    return os.path.expanduser(data_dir or str(constants.DATA_DIR))


def find_prepared(tfds_name: str, data_dir: str | None = None) -> Builder | None:
    """Returns a builder that reads a prepared data set, or None if it has not been prepared.

    It takes the highest prepared version unless the name asks for another. It does not need the data set's own code, so
    it can read any TFDS data set.

    Raises:
        UsageError: the files are damaged or cannot be read, or the version found or asked for is below `LOWEST`.
    """
    builder = _on_disk(tfds_name, data_dir)
    if not (reason := _outdated(tfds_name, builder)):
        return builder
    base, _, asked = tfds_name.partition(":")
    version = asked or (builder.version if builder else "")  # without a builder, only the name can ask for an old one
    raise UsageError(
        f"'{base}:{version}' is too old: {reason}; prepare it again: "
        f"python -m ucl_jax.data.prepare {base} --data_dir={resolve_data_dir(data_dir)}"
        + (f", and ask for {base} without a version" if asked else "")
    )


def prepared_of(benchmarks: Sequence[str], data_dir: str | None = None) -> list[str]:
    """Returns those of the benchmarks, names of `BENCHMARKS`, whose data sets are prepared.

    Raises:
        UsageError: none is, or the files of one are damaged, cannot be read, or are too old.
    """
    found = [name for name in benchmarks if find_prepared(BENCHMARKS[name].tfds_name, data_dir)]
    require(
        bool(found),
        f"none of {', '.join(benchmarks)} is prepared in {resolve_data_dir(data_dir)}: python -m ucl_jax.data.prepare "
        f"{benchmarks[0]}, then again; or name the folder with --data_dir, or other data sets",
    )
    return found


def _on_disk(tfds_name: str, data_dir: str | None) -> Builder | None:
    """Returns a builder that reads a prepared data set of any version, or None; raises UsageError if it is damaged."""
    try:
        return read_only_builder.builder_from_files(tfds_name, data_dir=resolve_data_dir(data_dir))
    except ValueError:  # TFDS found no such data set, or the name is malformed
        return None
    except OSError as error:
        raise UsageError(
            f"cannot read '{tfds_name}' in {resolve_data_dir(data_dir)} ({_one_line(error)}): correct that, or "
            "remove it, and prepare it again"
        ) from error
    except Exception as error:  # damaged JSON files can raise anything
        raise UsageError(
            f"'{tfds_name}' in {resolve_data_dir(data_dir)} is damaged ({_one_line(error)}): remove it, and prepare "
            "it again"
        ) from error


def _outdated(tfds_name: str, builder: Builder | None) -> str | None:
    """Says why the version on disk (or, if there is none, that which the name asks for) is too old, or returns None."""
    lowest, reason = LOWEST.get(base_name(tfds_name), ("0.0.0", ""))
    version = builder.version if builder else tfds_name.partition(":")[2]
    return reason if tfds.core.Version.is_valid(version) and tfds.core.Version(version) < lowest else None


def check_known(tfds_name: str) -> None:
    """Raises UsageError, which suggests similar names, unless TFDS or this project knows the name."""
    base = base_name(tfds_name)
    known = sorted({*tfds.list_builders(with_community_datasets=False), *OWN})
    if base not in known:
        near = difflib.get_close_matches(base, known, n=3)
        if base in {benchmark.tfds_name for benchmark in BENCHMARKS.values()}:  # imagenet100
            raise UsageError(
                f"'{base}' is not in TFDS: prepare a data set of your own under this name, or name one that is "
                "prepared by config.benchmark.tfds_name, with another config.benchmark.name"
            )
        hint = f"did you mean {' or '.join(near)}?" if near else "see https://www.tensorflow.org/datasets/catalog"
        raise UsageError(f"unknown TFDS data set '{tfds_name}': {hint}")


def prepare(tfds_name: str, data_dir: str | None = None, manual_dir: str | None = None) -> Builder:
    """Prepares a data set as ArrayRecord unless that has been done, and returns a builder that reads it.

    It says on standard error what it does, with progress bars where that is a terminal. Only one process at a time
    prepares a data set; others wait for it and use its result.

    Args:
        tfds_name: as `tfds.builder` takes it.
        data_dir: the folder for prepared data; default $TFDS_DATA_DIR or ~/tensorflow_datasets. The sources are
            downloaded to `downloads` in it.
        manual_dir: a folder with the source files, if they have been downloaded already.

    Raises:
        UsageError: the name is unknown, TensorFlow is needed but not installed, the source cannot be reached or is
            wrong, the disk is full, or the files in `data_dir` are damaged.
    """
    data_dir = resolve_data_dir(data_dir)
    if manual_dir and not os.path.isdir(os.path.expanduser(manual_dir)):
        raise UsageError(f"--manual_dir {manual_dir} is not a folder")
    # A copy that is too old is ignored, and a new one prepared; but find_prepared raises if the name asks for the old.
    old = _outdated(tfds_name, _on_disk(tfds_name, data_dir))
    if (":" in tfds_name or not old) and (builder := find_prepared(tfds_name, data_dir)):
        return builder
    check_known(tfds_name)
    base = base_name(tfds_name)
    if base not in OWN and not has_tensorflow():
        raise UsageError(
            f"preparing '{tfds_name}' needs TensorFlow this once: run pip install 'ucl_jax[prepare]' and try again"
        )
    try:
        with exclusive(pathlib.Path(data_dir) / base):
            if base in OWN:
                _, arguments = naming.parse_builder_name_kwargs(tfds_name)
                builder = OWN[base](data_dir=data_dir, file_format="array_record", **arguments)
            else:
                builder = tfds.builder(tfds_name, data_dir=data_dir, file_format="array_record")
            if not builder.data_path.exists():
                _build(builder, manual_dir)
    except BUILD_ERRORS as error:
        raise UsageError(
            f"cannot prepare '{tfds_name}' in {data_dir}: {_one_line(error)}; check the folder and the network, or put "
            f"the source files into a folder DIR and run python -m ucl_jax.data.prepare {tfds_name} "
            f"--data_dir={data_dir} --manual_dir=DIR"
        ) from error
    if not (prepared := find_prepared(tfds_name, data_dir)):
        raise UsageError(f"{builder.data_path} is damaged, its features.json cannot be read: remove it and try again")
    return prepared


def _build(builder: Builder, manual_dir: str | None) -> None:
    """Downloads the sources of a data set unless they are in `manual_dir`, and prepares it.

    Call it under `exclusive`.
    """
    print(f"preparing {builder.data_path}", file=sys.stderr, flush=True)
    began, own = time.monotonic(), builder.name in OWN
    if own:
        _remove_leftovers(builder.data_path)
    if own and not manual_dir and builder.url_infos:
        manual_dir = str(builder.data_dir_root / "downloads" / builder.name)
        sources.download(builder.url_infos, pathlib.Path(manual_dir))
    tfds.display_progress_bar(sys.stderr.isatty())
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir and os.path.expanduser(manual_dir), try_download_gcs=False
    )
    with (
        contextlib.redirect_stdout(io.StringIO()),  # where TFDS prints sizes, which it does not know
        _sorting_in_memory() if own else contextlib.nullcontext(),
    ):
        builder.download_and_prepare(download_config=config)
    print(f"prepared {builder.data_path} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _sorting_in_memory() -> Iterator[None]:
    """Makes TFDS sort the examples of a split in memory. If they took more than 1 GB, it would need TensorFlow."""
    before, shuffle.MAX_MEM_BUFFER_SIZE = shuffle.MAX_MEM_BUFFER_SIZE, sys.maxsize
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = before


@contextlib.contextmanager
def exclusive(folder: pathlib.Path) -> Iterator[None]:
    """Makes a folder, and lets only one process at a time run the block for it; others wait for their turn."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is preparing {folder}: waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Removes the incomplete folders that killed preparations of `folder` have left beside it.

    Call it under `exclusive`, and only for the project's own data sets. TFDS itself takes no lock, so another program
    may be preparing any other data set at the same moment.
    """
    for path in folder.parent.glob(f"{constants.INCOMPLETE_PREFIX}*_{folder.name}"):
        shutil.rmtree(path)


def _one_line(error: Exception) -> str:
    """Returns the type and message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "python -m ucl_jax.data.prepare") -> None:
    """Runs the command."""
    about = {name: str(one.__doc__).partition(".")[0] for name, one in OWN.items()}
    lists = {"data sets that need no TensorFlow": about}
    epilog = f"{cli.listed(lists)}\n\n{cli.examples(prog, CALLS)}"
    parser = Parser(prog=prog, description=__doc__.splitlines()[0], epilog=epilog)
    parser.add_argument("names", nargs="+", metavar="NAME", help="a data set of the list below, or any TFDS name")
    parser.add_argument("--data_dir", help="where prepared data goes; default: the folder of TFDS")
    parser.add_argument("--manual_dir", help="folder with source files that are on disk already")
    args = parser.parse_args(argv)
    for name in args.names:
        builder = prepare(name, args.data_dir, args.manual_dir)
        sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
        print(f"{name}: {sizes} as {builder.info.file_format.value} in {builder.data_path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
