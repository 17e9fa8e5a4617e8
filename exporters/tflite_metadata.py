"""What a .tflite file says of itself: names, labels and preprocessing, in TensorFlow Lite's own metadata.

The format: the schema `metadata_schema.fbs` of github.com/tensorflow/tflite-support. A flatbuffer in the
model's buffer TFLITE_METADATA describes inputs and outputs; the files that it names are in a zip archive that
follows the model, so `unzip model.tflite` gives them too.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import flatbuffers
import numpy as np

from zoo.classifier import Facts

BUFFER = "TFLITE_METADATA"
LABELS, FACTS = "labels.txt", "zoo.json"
IDENTIFIER = b"M001"
MIN_PARSER = "1.0.0"
# Values of the schema's enumerations and unions.
DESCRIPTIONS, TENSOR_AXIS_LABELS = 1, 2
FEATURE_PROPERTIES, IMAGE_PROPERTIES, NORMALIZATION_OPTIONS = 1, 2, 1
RGB = 1
MEANINGS = {
    "features": "the vector before the classifier",
    "logits": "scores before they become probabilities, one for each label",
    "probabilities": "one for each label",
}

# A table by the schema's field numbers: a table, text, a list of either or of floats; an int is a byte.
Table = dict[int, Any]


def described(facts: Facts, outputs: list[str]) -> bytes:
    """The flatbuffer. outputs: the names of the model's outputs in their order."""
    tables = {0: facts.name, 3: [_graph(facts, outputs)], 6: [_file(FACTS, "name, labels, preprocessing")]}
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, {**tables, 7: MIN_PARSER}), IDENTIFIER)
    return bytes(builder.Output())


def archive(facts: Facts) -> bytes:
    """The named files as a zip archive, always the same bytes."""
    texts = {
        LABELS: "".join(f"{label}\n" for label in facts.labels),
        FACTS: json.dumps(facts.to_dict(), ensure_ascii=False, indent=1),
    }
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as files:
        for name, text in texts.items():
            files.writestr(zipfile.ZipInfo(name), text.encode("utf-8"))
    return written.getvalue()


def _graph(facts: Facts, outputs: list[str]) -> Table:
    return {2: [_images(facts)], 3: [_output(name) for name in outputs]}


def _images(facts: Facts) -> Table:
    height, width = facts.preprocessing.input_size
    # Normalisation is inside the network: mean 0 and deviation 1 tell tools to leave the pixels alone.
    as_is: Table = {0: NORMALIZATION_OPTIONS, 1: {0: [0.0], 1: [1.0]}}
    return {
        0: "images",
        1: f"RGB pictures of {height} x {width} pixels, 0..255",
        3: {0: IMAGE_PROPERTIES, 1: {0: RGB}},
        4: [as_is],
        5: {0: [255.0], 1: [0.0]},
    }


def _output(name: str) -> Table:
    table: Table = {0: name, 1: MEANINGS[name], 3: {0: FEATURE_PROPERTIES, 1: {}}}
    labels = {0: LABELS, 1: "a label for each class", 2: TENSOR_AXIS_LABELS}
    return table if name == "features" else {**table, 6: [labels]}


def _file(name: str, description: str) -> Table:
    return {0: name, 1: description, 2: DESCRIPTIONS}


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Where the value is in the buffer."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list) and isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, np.float32))
    if isinstance(value, list):
        offsets = [_write(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    return _write_table(builder, value)


def _write_table(builder: flatbuffers.Builder, table: Table) -> int:
    inner = {
        slot: value if isinstance(value, int) else _write(builder, value) for slot, value in table.items()
    }
    builder.StartObject(max(table, default=-1) + 1)
    for slot, value in inner.items():
        if isinstance(table[slot], int):
            builder.PrependByteSlot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()
