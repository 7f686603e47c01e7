"""Measures how fast images are decoded, and how long a run waits for a batch from the cache.

    python -m benchmarks.decode --tfds=cifar10                  # writes benchmarks/results/decode.json
    python -m benchmarks.decode --images=200 --out=FILE         # fewer images, without a data set of TFDS

It writes JPEG files of smooth noise, and decodes them: by plain Pillow in one process, as a folder of images into the
cache, and again from the cache. With --tfds it also reads a prepared data set by TFDS and by this package.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from benchmarks import measure
from ucl_jax import cli
from ucl_jax.data import decoded, folder, tfds_source

RESULT = measure.RESULTS / "decode.json"
BATCH = 256


def write_images(path: pathlib.Path, count: int, side: int) -> None:
    """Writes JPEG files of side x side pixels of smooth noise, which is about as hard to decode as a photo."""
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        noise.resize((side, side)).save(path / f"{number}.jpg", quality=90)


def plain(paths: Sequence[pathlib.Path], size: int) -> None:
    """Decodes files as a short program would."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(ImageOps.fit(image.convert("RGB"), (size, size)))


def of_folder(count: int, side: int, size: int) -> dict[str, float]:
    """Returns images per second by each way, and the mean milliseconds until a batch is taken from the cache."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as cache:
        path = pathlib.Path(made)
        write_images(path, count, side)
        paths = sorted(path.iterdir())

        def opened():
            return folder.open_folder(made, [], 1, size, "crop", "name", cache).split.images(np.arange(count))

        found = {
            "plain_pillow": count / measure.seconds(lambda: plain(paths, size)),
            "into_cache": count / measure.seconds(opened),
            "from_cache": count / measure.seconds(opened),
        }
        images = opened()
        order = np.random.default_rng(0).permutation(count)
        batches = [order[start : start + BATCH] for start in range(0, count, BATCH)]
        waits = [measure.seconds(lambda chosen=chosen: images[chosen]) for chosen in batches]
        return found | {"batch_milliseconds": 1000 * float(np.mean(waits))}


def of_tfds(name: str, count: int) -> dict[str, float]:
    """Returns images per second of a prepared data set by TFDS's own reading and by this package in several threads."""
    builder = tfds_source.load_builder(name)
    source = builder.as_data_source("train")
    count = min(count, len(source))
    split = tfds_source.open_split(builder, "train", "image", "label", source[0]["image"].shape[0], "resize")
    read = decoded.reader(split, "")
    return {
        "tfds": count / measure.seconds(lambda: [source[place]["image"] for place in range(count)]),
        "one_thread": count / measure.seconds(lambda: split.images(np.arange(count))),
        "threads": count / measure.seconds(lambda: read(np.arange(count))),
    }


@cli.returns_exit_code
def main(argv: list[str]) -> None:
    """Prints the numbers as JSON, and saves them."""
    parser = cli.Parser(prog="python -m benchmarks.decode", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=500, help="pixels a side of the files")
    parser.add_argument("--size", type=int, default=64, help="pixels a side of the decoded images")
    parser.add_argument("--tfds", default="", help="a prepared data set of square images; default: none")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    given = parser.parse_args(argv)
    sizes = {name: getattr(given, name) for name in ("images", "side", "size")}
    partial = not given.tfds or any(value != parser.get_default(name) for name, value in sizes.items())
    measure.check_out(given.out, RESULT, partial)
    command = " ".join(["python -m benchmarks.decode", *argv])
    result = {"command": command, "threads": decoded.THREADS, **sizes, **measure.where()}
    result["folder"] = of_folder(given.images, given.side, given.size)
    if given.tfds:
        result["tfds"] = {given.tfds: of_tfds(given.tfds, given.images)}
    print(json.dumps(result, indent=1))
    measure.save(given.out, result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
