"""model*.tflite, opened by LiteRT in a process that has neither TensorFlow nor this library."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import exporters
import exporters.pictures
import zoo
from exporters import tflite_metadata
from exporters.exporting import FORMATS
from exporters.tflite_layers import parts
from zoo.outputs import heads

SORTS = ("tflite", "tflite_float16", "tflite_dynamic", "tflite_int8")
LABELS = ("daisy", "rosé", "tulip")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Grouped convolutions, GELU and layer scale among its layers' kinds; logits of a usual size."""
    keras.utils.set_random_seed(4)
    images = keras.Input((32, 48, 3), name="images")
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    x = keras.layers.Conv2D(16, 3, 2, activation="gelu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = keras.layers.Conv2D(32, 1, activation="swish")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=8))(x)
    model = keras.Model(images, keras.layers.Activation("softmax")(x), name="small")
    return zoo.attach(model, zoo.Facts("small", LABELS, zoo.Preprocessing((32, 48))))


@pytest.fixture(scope="module")
def export(model, photos, tmp_path_factory) -> exporters.Export:
    base = tmp_path_factory.mktemp("tflite") / "small"
    return exporters.export(model, base, SORTS, calibrate=crops(photos))


def crops(photos) -> list[np.ndarray]:
    return [
        photo[top : top + 200, left : left + 300] for photo in photos for top, left in ((0, 0), (90, 250))
    ]


PLAIN = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
file, images, out = sys.argv[1:]
runner = Interpreter(model_path=file).get_signature_runner("serving_default")
images = np.load(images)
if runner.get_input_details()["images"]["dtype"] == np.uint8:
    images = images.astype(np.uint8)
parts = [runner(images=images[i : i + n]) for i, n in ((0, 1), (1, 3))]
scales = {name: details["quantization"] for name, details in runner.get_output_details().items()}
np.savez(out, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
print(json.dumps({name: [float(scale), int(zero)] for name, (scale, zero) in scales.items()}))
assert not {"tensorflow", "keras", "zoo"} & set(sys.modules)
"""


def opened(export, name: str, images: np.ndarray, folder) -> dict[str, np.ndarray]:
    np.save(folder / "images.npy", images)
    paths = [export.path / FORMATS[name].file, folder / "images.npy", folder / "out.npz"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *map(str, paths)], check=True, stdout=subprocess.PIPE, text=True
    )
    scales = json.loads(done.stdout)
    found = {name: values.astype(np.float32) for name, values in np.load(paths[2]).items()}
    return {
        name: (values - scales[name][1]) * scales[name][0] if scales[name][0] else values
        for name, values in found.items()
    }


@pytest.mark.parametrize(
    ("name", "closest"), [("tflite", 1e-5), ("tflite_float16", 0.02), ("tflite_int8", 0.2)]
)
def test_litert_gives_what_the_model_gives(model, export, photos, tmp_path, name, closest):
    images = exporters.pictures.fit(model.zoo.preprocessing, crops(photos))
    found, expected = opened(export, name, images, tmp_path), heads(model)(images)
    assert set(found) == {"features", "logits", "probabilities"}
    for output, values in found.items():
        scale = max(1.0, np.abs(expected[output]).max())
        assert np.abs(values - expected[output]).max() / scale < closest, output


def test_int8_takes_pictures_as_they_are(export):
    interpreter = Interpreter(model_path=str(export.path / "model_int8.tflite"))
    (taken,) = interpreter.get_input_details()
    assert (taken["dtype"], taken["quantization"][1]) == (np.uint8, 0)
    assert taken["quantization"][0] == pytest.approx(1, rel=0.02)
    kinds = {details["dtype"] for details in interpreter.get_tensor_details()}
    assert np.float32 not in kinds


def test_sizes_and_figures(export):
    sizes = {name: export.costs[name].bytes for name in SORTS}
    assert sizes["tflite_float16"] < sizes["tflite"]
    assert {name: export.files[FORMATS[name].file].bytes for name in SORTS} == sizes
    assert export.parity["tflite"].max_rel < 1e-5
    assert 1e-5 < export.parity["tflite_float16"].max_rel < 0.02
    for name in SORTS:
        assert export.parity[name].cosine > 0.99
        assert export.parity[name].agreement == 1
        assert export.costs[name].milliseconds > 0


@pytest.mark.parametrize("name", SORTS)
def test_labels_travel_in_the_file(export, model, name):
    with zipfile.ZipFile(export.path / FORMATS[name].file) as inside:
        assert inside.read("labels.txt").decode("utf-8").splitlines() == list(LABELS)
        assert zoo.Facts.from_dict(json.loads(inside.read("zoo.json"))) == model.zoo


def test_metadata_is_where_tools_look_for_it(export):
    from ai_edge_litert import schema_py_generated as schema

    file = schema.Model.GetRootAsModel((export.path / "model.tflite").read_bytes(), 0)
    entries = [file.Metadata(i) for i in range(file.MetadataLength())]
    (buffer,) = [entry.Buffer() for entry in entries if entry.Name() == b"TFLITE_METADATA"]
    data = file.Buffers(buffer).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    assert data == tflite_metadata.described(exported_facts(export), ["features", "logits", "probabilities"])
    for text in (b"small", b"RGB pictures of 32 x 48 pixels, 0..255", b"labels.txt", b"zoo.json"):
        assert text in data


def exported_facts(export) -> zoo.Facts:
    card = json.loads((export.path / "card.json").read_text("utf-8"))
    preprocessing = zoo.Preprocessing.from_dict(card["preprocessing"])
    return zoo.Facts(card["architecture"], tuple(card["labels"]), preprocessing)


def test_the_same_model_gives_the_same_bytes(model, export, photos, tmp_path):
    again = exporters.export(model, tmp_path / "small", SORTS, calibrate=crops(photos))
    for name in SORTS:
        file = FORMATS[name].file
        assert again.files[file].sha256 == export.files[file].sha256


def wide() -> keras.Model:
    """Depthwise convolutions of all kinds that LiteRT has no kernel for."""
    keras.utils.set_random_seed(5)
    base = keras.Input((None, None, 3))
    x = keras.layers.DepthwiseConv2D(7, 2, depth_multiplier=2)(keras.layers.Rescaling(1 / 64, -2.0)(base))
    x = keras.layers.DepthwiseConv2D(9, padding="same", activation="relu")(x)
    base = keras.Model(base, x, name="base")
    images = keras.Input((64, 81, 3), name="images")
    x = base(images)
    x = keras.layers.DepthwiseConv2D((7, 5), padding="same", dilation_rate=2, use_bias=False)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=3)(x)
    x = keras.layers.DepthwiseConv2D(6, 2, padding="same")(x)
    x = keras.layers.DepthwiseConv2D((1, 31), padding="same")(x)
    x = keras.layers.Dense(8, "gelu")(keras.layers.LayerNormalization()(x))
    x = keras.layers.Dense(3, name="top")(keras.layers.GlobalAveragePooling2D()(x))
    for conv in base.layers[2:]:
        conv.bias.assign(keras.random.normal(conv.bias.shape))
    model = keras.Model(images, keras.layers.Softmax()(x), name="wide")
    return zoo.attach(model, zoo.Facts("wide", LABELS, zoo.Preprocessing((64, 81))))


@pytest.mark.parametrize("batch", [None, 2])
def test_wide_depthwise_convolutions_are_of_parts_that_have_a_kernel(photos, tmp_path, batch):
    export = exporters.export(wide(), tmp_path / "wide", SORTS[:2], pictures=crops(photos), batch=batch)
    assert export.parity["tflite"].max_rel < 1e-5
    for name in SORTS[:2]:
        interpreter = Interpreter(model_path=str(export.path / FORMATS[name].file))
        sizes = {one["index"]: one["shape"] for one in interpreter.get_tensor_details()}
        done = interpreter._get_ops_details()
        kernels = [sizes[one["inputs"][1]] for one in done if one["op_name"] == "DEPTHWISE_CONV_2D"]
        assert len(kernels) == 3 + 4 + 2 + 1 + 2 + 2
        assert all(np.prod(kernel[1:3]) <= 25 for kernel in kernels)


def test_nothing_is_worked_out_from_how_many_pictures_there_are(photos, tmp_path):
    export = exporters.export(wide(), tmp_path / "wide", "tflite", pictures=crops(photos))
    done = Interpreter(model_path=str(export.path / "model.tflite"))._get_ops_details()
    names = {one["op_name"] for one in done}
    assert "FULLY_CONNECTED" in names
    assert not names & {"SHAPE", "GATHER", "PACK", "SPACE_TO_BATCH_ND", "BATCH_MATMUL"}


def test_holes_of_two_sizes_stay_as_they_are(photos, tmp_path):
    images = keras.Input((24, 20, 3), name="images")
    x = keras.layers.DepthwiseConv2D(7, dilation_rate=(1, 2))(keras.layers.Rescaling(1 / 64, -2.0)(images))
    x = keras.layers.Dense(3, name="top")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, keras.layers.Softmax()(x), name="holes")
    zoo.attach(model, zoo.Facts("holes", LABELS, zoo.Preprocessing((24, 20))))
    export = exporters.export(model, tmp_path / "holes", "tflite", pictures=crops(photos))
    assert export.parity["tflite"].max_rel < 1e-5


@pytest.mark.parametrize(
    ("kernel", "count"), [((5, 5), 1), ((7, 7), 3), ((9, 9), 4), ((1, 31), 2), ((31, 31), 44), ((6, 6), 2)]
)
def test_a_kernel_s_parts_have_every_tap_once(kernel, count):
    taps = np.zeros(kernel, int)
    found = list(parts(*kernel))
    for rows, columns in found:
        taps[rows, columns] += 1
        assert taps[rows, columns].size <= 25
    assert len(found) == count
    assert (taps == 1).all()


def test_int8_needs_pictures(model, tmp_path):
    with pytest.raises(exporters.ExportError, match="tflite_int8 needs pictures to calibrate with"):
        exporters.export(model, tmp_path / "small", "tflite_int8")
    with pytest.raises(exporters.ExportError, match="there are no pictures to calibrate with"):
        exporters.export(model, tmp_path / "small", "tflite_int8", calibrate=[])
    assert list(tmp_path.iterdir()) == []
