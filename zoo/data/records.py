"""TFRecord files of tf.train.Example: image/encoded, image/class/label and, where known, image/class/text; of
pictures with several labels the two are lists.

The names are those of TensorFlow's ImageNet and Object Detection data sets. Their sides are in the files'
names: train-00000-of-00002.tfrecord.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.data.listing import SIDE_OF, Item, Listing, indexed_sets
from zoo.data.pictures import Pictures
from zoo.data.split import SIDES, Split
from zoo.errors import DataError
from zoo.preprocessing import read_image
from zoo.progress import progress
from zoo.writing import complete

if TYPE_CHECKING:
    import tensorflow as tf

PATTERNS = ("*.tfrecord", "*.tfrecords", "*.tfrecord-*-of-*")
LABELS_FILE = "labels.txt"
PER_FILE = 2000  # pictures; some hundred megabytes
FILE_NAMES = {"training": "train", "validation": "val", "test": "test"}


def record_files(folder: Path) -> list[Path]:
    return sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})


def list_records(files: list[Path]) -> Listing:
    """The pictures stay encoded, in memory."""
    import tensorflow as tf

    rows, problems = [], []
    for path in files:
        try:
            records = list(tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator())
        except tf.errors.OpError as error:
            problems.append(f"{path.name} is damaged: {error.message}")
            continue
        side = SIDE_OF.get(path.name.partition("-")[0].lower(), "")
        rows += [(f"{path.name}:{i}", side, record) for i, record in enumerate(records)]
    examples = [(name, side, _parsed(record)) for name, side, record in rows]
    problems += [
        f"{name} has no image/encoded, or no label" for name, _, parsed in examples if parsed is None
    ]
    good = [(name, side, *parsed) for name, side, parsed in examples if parsed is not None]
    if not good and not problems:
        problems.append("the files hold no records")
    classes, places, strange = indexed_sets([labels for *_, labels in good], _class_names(files[0].parent))
    items = [
        Item(encoded, name, place, side) for (name, side, encoded, _), place in zip(good, places, strict=True)
    ]
    several = any(len(labels) != 1 for *_, labels in good)
    return Listing(f'"{files[0].parent}"', items, classes, problems + strange, several)


def _parsed(record: bytes) -> tuple[bytes, list[int] | list[str]] | None:
    """The encoded picture and its labels: the classes' texts where there are any, else their numbers."""
    from google.protobuf.message import DecodeError
    from tensorflow.train import Example

    try:
        features = Example.FromString(record).features.feature
    except DecodeError:
        return None
    named = "image/class/text" in features or "image/class/label" in features
    encoded = features["image/encoded"].bytes_list.value
    texts = features["image/class/text"].bytes_list.value
    if not encoded or not named:
        return None
    if texts and all(texts):
        return encoded[0], [text.decode() for text in texts]
    return encoded[0], list(features["image/class/label"].int64_list.value)


def _class_names(folder: Path) -> list[str] | None:
    path = folder / LABELS_FILE
    return path.read_text("utf-8").splitlines() if path.is_file() else None


def write_records(pictures: Pictures, sides: Split, folder: Path) -> list[Path]:
    """Write train-*, val-* and test-*.tfrecord and labels.txt; returns the files' paths.

    Files keep their encoding, arrays become PNG. The folder appears whole or not at all. Raises DataError
    where it exists.
    """
    if folder.exists():
        raise DataError(f'"{folder}" exists; give the name of a new folder')
    with complete(folder) as home, progress() as bar:
        line = bar.add_task("records", total=len(pictures))
        home.mkdir()
        (home / LABELS_FILE).write_text("".join(f"{name}\n" for name in pictures.classes), "utf-8")
        for side in SIDES:
            chosen = getattr(sides, side).tolist()
            shards = [chosen[i : i + PER_FILE] for i in range(0, len(chosen), PER_FILE)]
            for number, shard in enumerate(shards):
                name = f"{FILE_NAMES[side]}-{number:05}-of-{len(shards):05}.tfrecord"
                _write_file(home / name, pictures, shard)
                bar.advance(line, len(shard))
    return record_files(folder)


def _write_file(path: Path, pictures: Pictures, indices: list[int]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(os.fspath(path)) as file:
        for i in indices:
            file.write(_example(pictures, i).SerializeToString(deterministic=True))


def _example(pictures: Pictures, i: int) -> tf.train.Example:
    import tensorflow as tf

    def texts(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    labels = pictures.labels_of(i)
    feature = {
        "image/encoded": texts(_encoded(pictures, i)),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
        "image/class/text": texts(*(pictures.classes[label].encode() for label in labels)),
        "image/filename": texts(pictures.names[i].encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


def _encoded(pictures: Pictures, i: int) -> bytes:
    from PIL import Image

    source = pictures.sources[i]
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        return source.read_bytes()
    file = io.BytesIO()
    Image.fromarray(read_image(source)).save(file, "PNG")
    return file.getvalue()
