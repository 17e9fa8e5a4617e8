"""model.onnx, opened by ONNX Runtime in a process that has neither TensorFlow nor this library."""

import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

import exporters
import exporters.pictures
import zoo
from exporters.exporting import FORMATS
from exporters.onnx_pictures import resizing
from zoo.outputs import heads
from zoo.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def proto(exported):
    return onnx.load(exported.path / "model.onnx")


def shape(value) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_inputs_and_outputs(proto):
    assert {value.name: shape(value) for value in proto.graph.input} == {"images": ["batch", 64, 64, 3]}
    assert {value.name: shape(value) for value in proto.graph.output} == {
        "features": ["batch", 512],
        "logits": ["batch", 3],
        "probabilities": ["batch", 3],
    }
    assert [(entry.domain, entry.version) for entry in proto.opset_import if entry.domain == ""] == [("", 17)]


def test_graph_is_plain(proto):
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("Conv") == 20
    assert kinds.count("Transpose") <= 1
    assert "BatchNormalization" not in kinds


def test_pictures_are_turned_before_they_are_normalised(proto):
    kinds = [node.op_type for node in proto.graph.node]
    assert "Transpose" in kinds
    assert kinds.index("Transpose") == 0
    assert set(kinds[1 : kinds.index("Conv")]) <= {"Add", "Sub", "Mul", "Div", "Pad"}
    planes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    assert {planes[name] for node in proto.graph.node[1:3] for name in node.input if name in planes} == {
        (3, 1, 1)
    }


def test_metadata(proto):
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["name"] == "resnet18"
    assert json.loads(metadata["labels"]) == ["daisy", "rosé", "tulip"]
    assert Preprocessing.from_dict(json.loads(metadata["preprocessing"])).input_size == (64, 64)


PLAIN = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = np.load(sys.argv[2])
parts = [session.run(None, {"images": images[i : i + n]}) for i, n in ((0, 1), (1, 2), (3, 5))]
names = [o.name for o in session.get_outputs()]
np.savez(sys.argv[3], **{name: np.concatenate([p[i] for p in parts]) for i, name in enumerate(names)})
assert not {"tensorflow", "keras", "zoo"} & set(sys.modules)
"""


def test_any_batch_equals_the_model(exported, tmp_path):
    images = np.random.default_rng(5).integers(0, 256, (8, 64, 64, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    paths = [exported.path / "model.onnx", tmp_path / "images.npy", tmp_path / "out.npz"]
    subprocess.run([sys.executable, "-c", PLAIN, *paths], check=True)
    found, expected = np.load(paths[2]), heads(exported.model)(images)
    for name in ("features", "logits", "probabilities"):
        scale = max(1.0, np.abs(expected[name]).max())
        assert np.abs(found[name] - expected[name]).max() / scale < 1e-5


def test_captured_constants_do_not_become_inputs(tmp_path):
    images = keras.Input((32, 32, 3))
    x = keras.layers.Normalization(mean=[120.0, 110, 100], variance=[3600.0, 3500, 3400])(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(x))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    zoo.attach(model, zoo.Facts("normalised", ("a", "b"), zoo.Preprocessing((32, 32))))
    export = exporters.export(model, tmp_path / "normalised", "onnx")
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    assert [value.name for value in session.get_inputs()] == ["images"]


@keras.saving.register_keras_serializable("tests")
class Spectrum(keras.layers.Layer):
    """What neither ONNX nor LiteRT's built-in operations can say."""

    def call(self, x):
        return x + tf.linalg.svd(x, compute_uv=False)[:, :, :1, None] * 1e-3


def test_what_onnx_cannot_say_is_refused(tmp_path):
    images = keras.Input((32, 32, 3))
    x = Spectrum()(keras.layers.Conv2D(8, 3)(images))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    zoo.attach(model, zoo.Facts("spectrum", ("a", "b"), zoo.Preprocessing((32, 32))))
    message = r"cannot be expressed in ONNX: unknown operations \['Svd'\]"
    with pytest.raises(exporters.ExportError, match=message):
        exporters.export(model, tmp_path / "spectrum", "onnx")
    with pytest.raises(exporters.ExportError, match=r"tflite for .* failed, nothing was published"):
        exporters.export(model, tmp_path / "spectrum", "tflite")
    assert list(tmp_path.iterdir()) == []


# --- the other ONNX files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mobile() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = zoo.load("mobilenetv3_small_050", weights=None, classes=3, input_size=64)
    pictures = np.random.default_rng(6).uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    model.trainable = True
    for _ in range(3):
        model(pictures, training=True)
    return model


FILES = {name: FORMATS[name].file for name in ("onnx", "onnx_any_size", "onnx_pictures", "onnx_int8")}


@pytest.fixture(scope="module")
def files(mobile, photos, tmp_path_factory) -> exporters.Export:
    base = tmp_path_factory.mktemp("onnx") / "mobile"
    loose = {"onnx_int8": 0.5}
    return exporters.export(mobile, base, list(FILES), calibrate=photos, tolerance=loose)


def session_of(files, name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(files.path / FILES[name], providers=["CPUExecutionProvider"])


def test_the_images_of_each(files):
    described = {name: session_of(files, name).get_inputs()[0] for name in FILES}
    assert {name: (value.type, value.shape) for name, value in described.items()} == {
        "onnx": ("tensor(float)", ["batch", 64, 64, 3]),
        "onnx_any_size": ("tensor(float)", ["batch", "height", "width", 3]),
        "onnx_pictures": ("tensor(uint8)", ["batch", "height", "width", 3]),
        "onnx_int8": ("tensor(float)", ["batch", 64, 64, 3]),
    }
    for name in FILES:
        assert [value.name for value in session_of(files, name).get_outputs()] == [
            "features",
            "logits",
            "probabilities",
        ]


@pytest.mark.parametrize("name", ["onnx", "onnx_any_size"])
def test_scalars_leave_no_transposes(files, name):
    nodes = onnx.load(files.path / FILES[name]).graph.node
    assert [node.op_type for node in nodes].count("Transpose") == 1


def test_any_size(files, mobile):
    images = np.random.default_rng(7).uniform(0, 255, (2, 96, 160, 3)).astype(np.float32)
    larger = zoo.load("mobilenetv3_small_050", weights=None, classes=3, input_size=(96, 160))
    larger.set_weights(mobile.get_weights())
    (found,) = session_of(files, "onnx_any_size").run(["probabilities"], {"images": images})
    np.testing.assert_allclose(found, larger(images), atol=1e-5)
    assert files.parity["onnx_any_size at a larger size"].max_rel < 1e-5


@pytest.mark.parametrize(("name", "size"), [("dla46x_c", (None, None)), ("bat_resnext26ts", 256)])
def test_any_size_of_networks_that_take_multiples(name, size, tmp_path):
    keras.utils.set_random_seed(0)
    model = zoo.load(name, weights=None, classes=3, input_size=size)
    # Logits of some hundreds, as random weights give them, make another probability of any rounding.
    head = model.trainable_variables[-2]
    head.assign(head / 100)
    done = exporters.export(model, tmp_path / name, ("onnx_any_size",))
    assert done.parity["onnx_any_size at a larger size"].max_rel < 1e-4
    session = onnxruntime.InferenceSession(done.path / FILES["onnx_any_size"])
    images = np.random.default_rng(7).uniform(0, 255, (2, 256, 512, 3)).astype(np.float32)
    (found,) = session.run(["probabilities"], {"images": images})
    same = zoo.load(name, weights=None, classes=3, input_size=(256, 512))
    same.set_weights(model.get_weights())
    np.testing.assert_allclose(found, same(images), atol=1e-4)


SHAPED = [
    "shufflenet_v1_x0_5_g3",
    "shufflenet_v2_x0_5",
    "ghostnetv2_100",
    "gcresnext26ts",
    "squeezenet1_1",
    "zfnet",
    "mobilevit_xxs",
    "edgenext_xx_small",
]


@pytest.mark.parametrize("name", SHAPED)
def test_what_depends_on_the_sides_is_right_at_any_size(name, tmp_path):
    model = zoo.load(name, weights=None, classes=3, input_size=128)
    done = exporters.export(model, tmp_path / name, "onnx_any_size")
    images = np.random.default_rng(8).uniform(0, 255, (1, 161, 190, 3)).astype(np.float32)
    larger = zoo.load(name, weights=None, classes=3, input_size=(161, 190))
    larger.set_weights(model.get_weights())
    expected = heads(larger)(images)["logits"]
    (found,) = session_of(done, "onnx_any_size").run(["logits"], {"images": images})
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_network_of_any_size_is_exported_at_its_preprocessings(mobile, tmp_path):
    free = zoo.load("mobilenetv3_small_050", weights=None, classes=3, input_size=(None, None))
    free.set_weights(mobile.get_weights())
    done = exporters.export(free, tmp_path / "free", ["onnx", "onnx_any_size", "keras"])
    assert session_of(done, "onnx").get_inputs()[0].shape == ["batch", 224, 224, 3]
    assert zoo.load(done.path / "model.keras").input_shape == (None, None, None, 3)
    images = np.random.default_rng(7).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    (found,) = session_of(done, "onnx_any_size").run(["probabilities"], {"images": images})
    np.testing.assert_allclose(found, mobile(images), atol=1e-5)


def test_networks_that_add_maps_of_several_scales_take_multiples_of_32(tmp_path):
    images = keras.Input((64, 64, 3))
    stem = keras.layers.Conv2D(4, 3, 2, "same", activation="relu")(images)
    deep = keras.layers.Conv2D(4, 16, 16, "same", activation="relu")(stem)
    maps = keras.layers.Add()([stem, keras.layers.UpSampling2D(16)(deep)])
    scores = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(images, scores, name="scales")
    zoo.attach(model, zoo.Facts("scales", ("a", "b"), zoo.Preprocessing((64, 64))))
    done = exporters.export(model, tmp_path / "scales", "onnx_any_size")
    assert done.parity["onnx_any_size at a larger size"].max_rel < 1e-5
    (found,) = session_of(done, "onnx_any_size").run(["logits"], {"images": np.ones((1, 160, 32, 3), "f")})
    assert found.shape == (1, 2)


def test_networks_of_one_size_are_refused(tmp_path):
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)), name="flat")
    zoo.attach(model, zoo.Facts("flat", ("a", "b"), zoo.Preprocessing((16, 16))))
    with pytest.raises(exporters.ExportError, match="flat takes pictures of one size only"):
        exporters.export(model, tmp_path / "flat", "onnx_any_size")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pictures_are_resized_as_by_pillow(interpolation, photos):
    preprocessing = Preprocessing((56, 72), 0.9, interpolation)
    graph = resizing(preprocessing, 10, "batch")
    resize = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for picture in (photos[0], photos[1][:300, :60], photos[0][:30, :600], photos[1][:41, :40]):
        (found,) = resize.run(None, {"images": picture[None]})
        difference = np.abs(found[0] - zoo.preprocessing.evaluate(preprocessing, picture).astype(np.float32))
        assert difference.max() <= 1
        assert difference.mean() < 0.02


def test_pictures_of_any_size(files, mobile, photos):
    images = exporters.pictures.fit(mobile.zoo.preprocessing, photos)
    (found,) = session_of(files, "onnx_pictures").run(["probabilities"], {"images": np.stack(photos)})
    np.testing.assert_allclose(found, mobile(images), atol=0.01)
    assert files.parity["onnx_pictures"].max_rel < 1e-5


def test_int8_is_a_quarter_and_close(files):
    proto = onnx.load(files.path / FILES["onnx_int8"])
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("QuantizeLinear") > kinds.count("Conv") > 20
    assert files.costs["onnx_int8"].bytes < 0.45 * files.costs["onnx"].bytes
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    first = next(node for node in proto.graph.node if node.op_type == "Conv")
    (source,) = [node for node in proto.graph.node if first.input[1] in node.output]
    assert weights[source.input[0]].data_type == onnx.TensorProto.INT8
    assert list(weights[source.input[1]].dims) == [16]


def test_int8_that_is_too_far_off_is_not_published(mobile, photos, tmp_path):
    with pytest.raises(
        exporters.ExportError, match=r"onnx_int8 is not equal to the model: cosine (1|0\.\d+), asked"
    ):
        exporters.export(mobile, tmp_path / "x", "onnx_int8", calibrate=photos, tolerance={"onnx_int8": 1e-9})
    assert list(tmp_path.iterdir()) == []


def test_the_card_travels_too(files, mobile):
    for name in FILES.values():
        metadata = {entry.key: entry.value for entry in onnx.load(files.path / name).metadata_props}
        assert json.loads(metadata["card"])["paper"] == mobile.zoo.card["paper"]


def test_the_same_model_gives_the_same_bytes(files, mobile, photos, tmp_path):
    again = exporters.export(
        mobile, tmp_path / "x", list(FILES), calibrate=photos, tolerance={"onnx_int8": 0.5}
    )
    for file in FILES.values():
        assert again.files[file].sha256 == files.files[file].sha256, file


def operations(file) -> list[str]:
    return [node.op_type for node in onnx.load(file).graph.node]


def optimized(file, tmp_path) -> list[str]:
    """The operations that ONNX Runtime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return operations(tmp_path / "optimized.onnx")


def ended(images, vectors, name):
    """A classifier of three classes behind the vectors."""
    model = keras.Model(images, keras.layers.Dense(3, activation="softmax")(vectors))
    return zoo.attach(model, zoo.Facts(name, ("a", "b", "c"), Preprocessing((16, 16))))


def test_norms_over_channels_linear_layers_of_places_and_gelu_are_one_operation_each(tmp_path):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 4, 4)(images)
    for learnt in ({}, {"scale": False}, {"center": False}, {"scale": False, "center": False}):
        x = keras.layers.LayerNormalization(epsilon=1e-3, **learnt)(x)
        x = keras.layers.Dense(8, activation="gelu")(x)
    twice = keras.layers.LayerNormalization()(keras.layers.LayerNormalization()(x))
    x = keras.layers.Add()([keras.layers.Activation("gelu")(twice), twice])
    # over rows as well, and over vectors: the one is none of them, the other has no places
    x = keras.layers.LayerNormalization(axis=(1, 3))(x)
    x = keras.layers.LayerNormalization()(keras.layers.GlobalAveragePooling2D()(x))
    model = ended(images, x, "normed")
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0.5, 0.5, variable.shape))
    file = exporters.export(model, tmp_path / "normed", "onnx").path / "model.onnx"
    kinds = operations(file)
    assert (kinds.count("LayerNormalization"), kinds.count("MatMul") + kinds.count("Gemm")) == (7, 5)
    assert "Shape" not in kinds
    assert sum("Gelu" in kind for kind in optimized(file, tmp_path)) == 5
    opened = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    pictures = random.uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    found = opened.run(["probabilities"], {"images": pictures})[0]
    np.testing.assert_allclose(found, model.predict_on_batch(pictures), atol=1e-5)


@keras.saving.register_keras_serializable("tests")
class AlmostNorm(keras.layers.Layer):
    """Norms in all but one thing: over rows, of two tensors, by one factor."""

    def call(self, x):
        def spread(y, axis=-1):
            return tf.math.rsqrt(tf.reduce_mean(tf.square(y), axis, keepdims=True) + 1e-3)

        across = x - tf.reduce_mean(x, 1, keepdims=True)
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        return across * spread(across, 1) + centred * spread(x) + centred * (spread(centred) * 3.0)


def test_what_is_almost_a_norm_over_channels_stays_what_it_is(tmp_path):
    images = keras.Input((16, 16, 3))
    x = keras.layers.GlobalMaxPooling2D()(AlmostNorm()(keras.layers.Conv2D(8, 4, 4)(images)))
    export = exporters.export(ended(images, x, "almost"), tmp_path / "almost", "onnx")
    kinds = operations(export.path / "model.onnx")
    assert "LayerNormalization" not in kinds


def test_layers_that_are_called_twice_are_exported(tmp_path):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 4, 4)(images)
    shared = [
        keras.layers.LayerNormalization(),
        keras.layers.Dense(8, activation="gelu"),
        keras.layers.Conv2D(8, 3, padding="same", groups=2),
    ]
    for layer in shared * 2:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    export = exporters.export(ended(images, x, "shared"), tmp_path / "shared", ("onnx", "tflite"))
    kinds = operations(export.path / "model.onnx")
    assert (kinds.count("LayerNormalization"), kinds.count("Erf"), kinds.count("Conv")) == (2, 2, 3)


def test_hard_swish_and_the_gate_in_it_are_one_operation_each(tmp_path):
    export = exporters.export(
        zoo.load("mobilenetv3_small_100", None, input_size=64), tmp_path / "mobile", "onnx"
    )
    kinds = operations(export.path / "model.onnx")
    assert [kinds.count(kind) for kind in ("HardSwish", "HardSigmoid", "Clip")] == [19, 9, 0]


@pytest.mark.parametrize("name", ["onnx", "onnx_any_size"])
def test_nearest_upsampling_is_one_operation(name, tmp_path):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same")(images)
    x = keras.layers.Conv2D(8, 3, padding="same")(keras.layers.UpSampling2D((2, 3))(x))
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.UpSampling2D(2)(x))
    export = exporters.export(ended(images, x, "up"), tmp_path / "up", name)
    kinds = operations(export.path / FILES[name])
    assert (kinds.count("Resize"), kinds.count("Tile"), kinds.count("Transpose")) == (2, 0, 1)


def test_group_norms_are_one_operation_each(tmp_path):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, 2)(images)
    for groups, learnt in ((1, {}), (4, {"center": False}), (8, {"scale": False, "center": False})):
        x = keras.layers.GroupNormalization(groups, epsilon=1e-2, **learnt)(x)
        x = keras.layers.Conv2D(8, 3, padding="same", activation="gelu")(x)
    model = ended(images, keras.layers.GlobalAveragePooling2D()(x), "grouped")
    export = exporters.export(model, tmp_path / "grouped", ("onnx", "onnx_any_size"))
    for name in export.costs:
        kinds = operations(export.path / FILES[name])
        counts = [kinds.count(kind) for kind in ("InstanceNormalization", "ReduceMean", "Transpose", "Erf")]
        assert counts == [3, 0, 1, 3], name
    assert optimized(export.path / "model.onnx", tmp_path).count("Gelu") == 3


@pytest.mark.parametrize("name", ["regnety_002", "fasternet_t0"])
def test_sums_vanish_in_convolutions_behind_gates_and_cuts(name, tmp_path):
    """ONNX Runtime adds while it convolves where it knows that the maps have one size."""
    export = exporters.export(zoo.load(name, None, input_size=64), tmp_path / name, "onnx")
    kinds = optimized(export.path / "model.onnx", tmp_path)
    # the one left is the pictures' normalisation
    assert [kinds.count(kind) for kind in ("Add", "Reshape", "Slice")] == [1, 0, 0]


def test_parallel_convolutions_are_one_where_nobody_trains(photos, tmp_path):
    model = zoo.load("repghostnet_050", None, input_size=64)
    formats = ("onnx", "onnx_any_size", "onnx_pictures", "onnx_int8", "tflite", "openvino", "keras")
    export = exporters.export(
        model, tmp_path / "rep", formats, calibrate=photos, tolerance={"onnx_int8": 1.0}
    )
    kinds = [type(layer).__name__ for layer in zoo.fuse(model).layers]
    fused = sum("Conv2D" in kind for kind in kinds)
    for name in ("onnx", "onnx_any_size", "onnx_pictures"):
        assert operations(export.path / FILES[name]).count("Conv") == fused, name
    assert export.costs["tflite"].bytes < 0.99 * export.costs["keras"].bytes
    assert len(zoo.load(export.path / "model.keras").layers) == len(model.layers)


def test_parallel_convolutions_are_one_at_any_size_or_stay_apart(tmp_path):
    """TensorFlow's border depends on the sides: 1x1 and 3x3 with a stride look at other places of others."""
    images = keras.Input((16, 16, 3))
    x = images
    for padding, stride in (("same", 2), ("same", 1), ("valid", 2)):
        wide = keras.layers.ZeroPadding2D()(x) if padding == "valid" else x
        branches = [
            keras.layers.Conv2D(8, 3, stride, padding)(wide),
            keras.layers.Conv2D(8, 1, stride, padding)(x),
        ]
        x = keras.layers.ReLU()(keras.layers.Add()(branches))
    model = ended(images, keras.layers.GlobalAveragePooling2D()(x), "branches")
    export = exporters.export(model, tmp_path / "branches", ("onnx", "onnx_any_size"))
    assert [operations(export.path / FILES[name]).count("Conv") for name in export.costs] == [3, 4]
