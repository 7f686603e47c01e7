"""Measures whether the memory of a run grows with its images, and how soon the run starts for the second time.

    python -m benchmarks.large_folder                                     # writes benchmarks/results/large_folder.json
    python -m benchmarks.large_folder --gigabytes=0.1 --out=large.json    # a smaller folder

For each size it makes a folder of JPEG files in four sub-folders, which decode to so many GB. It trains finetune on it
for one epoch, from the command to the results, with a network that is small enough for a CPU. Then it starts the same
command anew, with the caches of the first run, until its first step. Memory is the anonymous memory of the process,
from /proc: pages of the file of decoded images belong to the system, which takes them back when it needs them.
"""

import json
import os
import pathlib
import re
import sys
import tempfile
import time

from benchmarks import measure
from benchmarks.decode import write_images
from benchmarks.measure import RESULTS
from ucl_jax import cli
from ucl_jax.errors import UsageError, require
from ucl_jax.results.load import read_metrics

RESULT = RESULTS / "large_folder.json"
SIDE = 128  # pixels
FOLDERS = 4
DISTINCT = 1000  # pictures; all other files are links to them
ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")
SETTINGS = {
    "benchmark.image_size": SIDE,
    "model.stem": "imagenet",
    "model.width": 8,
    "objective.hidden_dim": 64,
    "objective.output_dim": 64,
    "train.batch_size": 64,
    "train.epochs": 1,
}


def make_folder(path: pathlib.Path, images: int) -> None:
    """Makes FOLDERS sub-folders of so many JPEG files in all."""
    (distinct := path / "distinct").mkdir()
    write_images(distinct, min(images, DISTINCT), SIDE)
    pictures = sorted(distinct.iterdir())
    for number in range(FOLDERS):
        (photos := path / "photos" / f"part{number}").mkdir(parents=True)
        for place in range(number, images, FOLDERS):
            os.link(pictures[place % len(pictures)], photos / f"{place}.jpg")


def run(folder: pathlib.Path, name: str, whole: bool) -> dict[str, float]:
    """Trains on the photos of a folder with caches in the same folder.

    Args:
      folder: made by `make_folder`.
      name: of the run's folder.
      whole: whether it goes on to its end; otherwise it is killed at its first step.

    Returns:
      "first_step", "seconds": the seconds from the command to the first step, and to the end of the process.
      "steps": how many steps there were.
      "megabytes_at_first_step", "megabytes": the most anonymous memory until the first step, and until the end.

    Raises:
      UsageError: the run failed.
    """
    workdir, log = folder / name, folder / f"{name}.txt"
    settings = SETTINGS | {
        "benchmark.path": folder / "photos",
        "image_cache": folder / "images",
        "compilation_cache": folder / "programs",
    }
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    began, first, most = time.perf_counter(), None, 0.0
    with log.open("w") as told, measure.start_run("configs/finetune.py:folder", workdir, flags, told) as child:
        while child.poll() is None:
            if found := ANONYMOUS.search(pathlib.Path(f"/proc/{child.pid}/status").read_text()):
                most = max(most, int(found[1]) / 1000)
            if first is None and measure.has_step(workdir):
                first = time.perf_counter() - began, most
                if not whole:
                    child.kill()
            time.sleep(0.05)
    if first is None or (whole and child.returncode):
        raise UsageError(f"launch.py failed: {(log.read_text().splitlines() or ['without a word'])[-1]}")
    return {
        "first_step": first[0],
        "seconds": time.perf_counter() - began,
        "steps": read_metrics(workdir / "metrics.jsonl")[-1]["step"],
        "megabytes": most,
        "megabytes_at_first_step": first[1],
    }


@cli.returns_exit_code
def main(argv: list[str]) -> None:
    """Measures each size, and saves the result after each."""
    parser = cli.Parser(prog="python -m benchmarks.large_folder", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", default="0.5,4", help="sizes of the decoded images")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    given = parser.parse_args(argv)
    measure.check_out(given.out, RESULT, partial=given.gigabytes != parser.get_default("gigabytes"))
    result = {"command": f"python -m benchmarks.large_folder --gigabytes={given.gigabytes}", "side": SIDE, "sizes": []}
    for gigabytes in map(float, given.gigabytes.split(",")):
        images = int(gigabytes * 1e9 / (3 * SIDE**2))
        require(images >= 1000, f"--gigabytes={gigabytes} is too little for a run; give at least 0.05")
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made)
            make_folder(folder, images)
            first, second = run(folder, "first", whole=True), run(folder, "second", whole=False)
        result["sizes"].append({"images": images, "gigabytes": gigabytes, "first": first, "second": second})
        measure.tell(json.dumps(result["sizes"][-1]))
        measure.save(given.out, result | measure.where())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
