"""Reads prepared TFDS data sets: all labels of a split, and the images at given indices.

Examples are read as the serialised `tf.train.Example` that TFDS writes, so that both file formats share one path.
ArrayRecord gives random access without TensorFlow. TFRecord is read by TensorFlow and kept in memory as encoded bytes.
Pixels are always decoded by Pillow, so that the same files give the same pixels everywhere.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps
from tensorflow_datasets.core.file_adapters import FileFormat
from tensorflow_datasets.proto import tf_example_pb2

from ucl_jax.data import prepare
from ucl_jax.errors import UsageError, check_word

CHUNK = 1000  # records that are read in one call; larger chunks are not faster


class Records(NamedTuple):
    """The serialised examples of one split.

    Attributes:
      size: their number.
      get: reads those at given indices.
    """

    size: int
    get: Callable[[Sequence[int]], Sequence[bytes]]


class Split(NamedTuple):
    """An opened split: its labels are in memory, its images are decoded on demand.

    Attributes:
      name: the data set and the split, for messages.
      records: the serialised examples.
      labels: int32 [N], values in [0, num_classes), or -1 where TFDS has no label.
      class_names: of the data set, by their numbers.
      image_key: the feature that holds the image.
      image_size: S; images become [S, S, 3].
      fit: how they get that size, a name in `FITS`.
      identity: all that the decoded pixels depend on, as JSON can hold it.
    """

    name: str
    records: Records
    labels: np.ndarray
    class_names: tuple[str, ...]
    image_key: str
    image_size: int
    fit: str
    identity: Any = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns the shape (N, S, S, 3) of all images together."""
        return self.records.size, self.image_size, self.image_size, 3

    def decode(self, indices: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Decodes images as `images` does, for `decoded.Source`. It raises UsageError where one is damaged."""
        return self.images(indices), {}

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Decodes the images at `indices` (int [n]): uint8 [n, S, S, 3], grey ones repeated over the channels.

        Raises:
            UsageError: `fit` cannot bring an image to S x S, or the files are damaged.
        """
        size = self.image_size
        out = np.empty((len(indices), size, size, 3), np.uint8)
        for place, example in enumerate(_examples(self.records, indices)):
            with Image.open(io.BytesIO(example[self.image_key].bytes_list.value[0])) as image:
                try:
                    out[place] = np.asarray(FITS[self.fit](image.convert("RGB"), size))
                except ValueError as error:
                    raise UsageError(f"{self.name}: {error}") from error
        return out

    def integers(self, setting: str, key: str) -> np.ndarray:
        """Reads a feature of whole numbers, one for each example: int64 [N].

        Raises:
            UsageError: the data set has no such feature; names the setting that has its key.
        """
        values = [example[key].int64_list.value[:1] for example in _examples(self.records, range(self.records.size))]
        if not all(values):
            raise UsageError(f"{self.name} has no {setting} '{key}': name a feature that holds a whole number")
        return np.concatenate(values)


def load_builder(tfds_name: str, data_dir: str | None = None, prepare_missing: bool = True) -> prepare.Builder:
    """Returns the builder of a prepared data set in `data_dir` (default: the folder of TFDS).

    Args:
        tfds_name: as `tfds.builder` takes it.
        data_dir: an existing folder; default $TFDS_DATA_DIR or ~/tensorflow_datasets, which may be missing.
        prepare_missing: whether a missing data set of `prepare.OWN` is downloaded and prepared.

    Raises:
        UsageError: the name is unknown, the folder does not exist, or the data set is not prepared and cannot be, too
            old or damaged. The message says how to prepare it.
    """
    if data_dir and not os.path.isdir(prepare.resolve_data_dir(data_dir)):
        raise UsageError(
            f"data_dir is {data_dir}, which is not a folder: correct it, make it, or prepare data "
            f"there: python -m ucl_jax.data.prepare {tfds_name} --data_dir={data_dir}"
        )
    if builder := prepare.find_prepared(tfds_name, data_dir):
        return builder
    prepare.check_known(tfds_name)
    own = prepare.base_name(tfds_name) in prepare.OWN
    if own and prepare_missing:
        return prepare.prepare(tfds_name, data_dir)
    data_dir = prepare.resolve_data_dir(data_dir)
    tensorflow = "" if own else "pip install 'ucl_jax[prepare]' (TensorFlow, needed this once) and then "
    raise UsageError(
        f"'{tfds_name}' is not prepared in {data_dir}: run {tensorflow}"
        f"python -m ucl_jax.data.prepare {tfds_name} --data_dir={data_dir}"
    )


def open_split(
    builder: prepare.Builder, split: str, image_key: str, label_key: str, image_size: int, fit: str
) -> Split:
    """Opens a split and reads its labels.

    Args:
        builder: a builder from `load_builder`.
        split: a split of the data set, or a slice in the notation of TFDS such as 'train[:50%]'.
        image_key: a feature of type `tfds.features.Image`, uint8.
        label_key: a feature of type `tfds.features.ClassLabel`.
        image_size: S of the images [S, S, 3].
        fit: 'none', 'pad', 'resize' or 'crop'.

    Raises:
        ValueError: `fit` is another word.
        UsageError: the data set has no such split or feature (the message lists those that it has), the split is empty,
            the files are damaged, or their format needs TensorFlow and it is not installed.
    """
    check_word("fit", fit, FITS)
    name, features = builder.info.name, builder.info.features
    images = [key for key, f in features.items() if isinstance(f, tfds.features.Image) and f.np_dtype == np.uint8]
    labels = [key for key, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    _check_choice(name, "image_key", image_key, images)
    _check_choice(name, "label_key", label_key, labels)
    try:
        size = builder.info.splits[split].num_examples
    except (KeyError, ValueError):
        _check_choice(name, "split", split, list(builder.info.splits))
        raise
    if size < 1:  # such as 'train[:0%]', or a slice that ends before it begins
        raise UsageError(f"'{name}' has no examples in split '{split}'")
    records = _records(builder, split)
    found = (example[label_key].int64_list.value[0] for example in _examples(records, range(records.size)))
    return Split(
        name=f"'{name}' split '{split}'",
        records=records,
        labels=np.fromiter(found, np.int32, records.size),
        class_names=tuple(features[label_key].names),
        image_key=image_key,
        image_size=image_size,
        fit=fit,
        identity=[builder.info.full_name, _files(builder, split), image_key, fit],
    )


def _files(builder: prepare.Builder, split: str) -> list[list]:
    """Returns each file of a split: name, size, time of its last change, and which of its examples are taken."""
    parts = builder.info.splits[split].file_instructions
    stats = [os.stat(part.filename) for part in parts]
    return [
        [os.path.basename(part.filename), stat.st_size, stat.st_mtime_ns, part.skip, part.take]
        for part, stat in zip(parts, stats)
    ]


def _check_choice(name: str, setting: str, value: str, known: list[str]) -> None:
    """Raises UsageError unless `value` is in `known`."""
    if value not in known:
        raise UsageError(f"'{name}' has no {setting} '{value}'; known: {', '.join(sorted(known)) or 'none'}")


def _records(builder: prepare.Builder, split: str) -> Records:
    """Returns the examples of a split in stored order, from ArrayRecord or, where TensorFlow is installed, TFRecord.

    Raises:
        UsageError: the data set is stored in another format, or is damaged.
    """
    formats = builder.info.available_file_formats()
    if FileFormat.ARRAY_RECORD in formats:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        with _damage_is_usage_error(builder):
            source = builder.as_data_source(split, deserialize_method=raw, file_format=FileFormat.ARRAY_RECORD)

        def get(indices: Sequence[int]) -> Sequence[bytes]:
            with _damage_is_usage_error(builder):
                return source.__getitems__(indices)

        return Records(len(source), get)
    if FileFormat.TFRECORD in formats and prepare.has_tensorflow():
        stored = _read_tfrecord(builder.info.splits[split].file_instructions)
        return Records(len(stored), lambda indices: [stored[i] for i in indices])
    name, written = builder.info.full_name.rpartition("/")[0], "/".join(sorted(f.value for f in formats))
    ways = [f"prepare it again elsewhere: python -m ucl_jax.data.prepare {name} --data_dir=OTHER_DIR"]
    if FileFormat.TFRECORD in formats:
        ways.insert(0, "install TensorFlow to read it as it is: pip install 'ucl_jax[prepare]'")
    raise UsageError(f"'{name}' in {builder.data_path} is stored as {written}, not array_record: {'; or '.join(ways)}")


@contextlib.contextmanager
def _damage_is_usage_error(builder: prepare.Builder) -> Iterator[None]:
    """Turns the RuntimeError that ArrayRecord raises for a missing, truncated or changed file into a UsageError."""
    try:
        yield
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise UsageError(f"{builder.data_path} is damaged ({what}): remove it, and prepare it again") from error


def _read_tfrecord(file_instructions: list) -> list[bytes]:
    """Reads all serialised examples that the instructions of TFDS (file, how many to skip, how many to take) name."""
    import tensorflow as tf

    return [
        record
        for part in file_instructions
        for record in tf.data.TFRecordDataset(part.filename).skip(part.skip).take(part.take).as_numpy_iterator()
    ]


def _examples(records: Records, indices: Iterable[int]) -> Iterator[Mapping[str, Any]]:
    """Yields the features of the examples at `indices`, each a mapping from key to `tf.train.Feature`."""
    places = [int(i) for i in indices]
    for start in range(0, len(places), CHUNK):
        for record in records.get(places[start : start + CHUNK]):
            yield tf_example_pb2.Example.FromString(record).features.feature


def _same(image: Image.Image, size: int) -> Image.Image:
    """Returns the image itself; raises ValueError if it has another size."""
    if image.size != (size, size):
        width, height = image.size
        raise ValueError(f"image of {width}x{height} pixels, image_size is {size}: set fit to 'pad' or 'resize'")
    return image


def _pad(image: Image.Image, size: int) -> Image.Image:
    """Centres the image in zeros; raises ValueError if it is too large."""
    width, height = image.size
    if max(width, height) > size:
        raise ValueError(f"image of {width}x{height} pixels cannot be padded to {size}: set fit to 'resize'")
    padded = Image.new("RGB", (size, size))
    padded.paste(image, ((size - width) // 2, (size - height) // 2))
    return padded


def _resize(image: Image.Image, size: int) -> Image.Image:
    """Resizes the image, bilinear and antialiased; it does not keep the aspect ratio."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _crop(image: Image.Image, size: int) -> Image.Image:
    """Resizes the square in the middle of the image, bilinear and antialiased."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


# The ways to bring an RGB image to size x size, by the value of `fit`.
FITS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "none": _same,
    "pad": _pad,
    "resize": _resize,
    "crop": _crop,
}
