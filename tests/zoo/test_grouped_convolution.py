"""A convolution in groups: the same numbers as its definition, trained with and without oneDNN, and exported
as one operation.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import exporters
import zoo
from zoo.build import build
from zoo.layers import GroupedConv2D, has_grouped_gradient
from zoo.registry import resolve

SHAPE = (2, 9, 7, 48)


def dense_twin(grouped):
    """A stock convolution whose kernel is the grouped one's, with zeros between the groups."""
    kernel = np.asarray(grouped.kernel)
    height, width, inputs, outputs = kernel.shape
    whole = np.zeros((height, width, inputs * grouped.groups, outputs), kernel.dtype)
    each = outputs // grouped.groups
    for g in range(grouped.groups):
        own = slice(g * each, (g + 1) * each)
        whole[:, :, g * inputs : (g + 1) * inputs, own] = kernel[..., own]
    twin = keras.layers.Conv2D(
        outputs, (height, width), grouped.strides, grouped.padding, dilation_rate=grouped.dilation_rate
    )
    twin.build(SHAPE)
    twin.set_weights([whole, np.asarray(grouped.bias)])
    return twin


def gathered(gradient, groups):
    """The dense kernel's gradient, of the places that the grouped kernel has."""
    inputs, each = gradient.shape[2] // groups, gradient.shape[3] // groups
    parts = [gradient[:, :, g * inputs : (g + 1) * inputs, g * each : (g + 1) * each] for g in range(groups)]
    return np.concatenate(parts, -1)


def forward_and_gradients(layer, x):
    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
        return y, *tape.gradient(loss, [x, layer.kernel.value])

    return [np.asarray(tensor, np.float32) for tensor in run(x)]


def assert_equals_its_twin(groups, strides, padding, dilation):
    """Forward, and the gradients by the map and by the kernel."""
    keras.utils.set_random_seed(0)
    x = keras.random.normal(SHAPE)
    options = {"padding": padding, "dilation_rate": dilation, "bias_initializer": "random_normal"}
    grouped = GroupedConv2D(96, 3, strides, groups=groups, **options)
    grouped.build(SHAPE)
    y, by_map, by_kernel = forward_and_gradients(grouped, x)
    expected = forward_and_gradients(dense_twin(grouped), x)
    np.testing.assert_allclose(y, expected[0], atol=1e-5)
    np.testing.assert_allclose(by_map, expected[1], atol=1e-4)
    np.testing.assert_allclose(by_kernel, gathered(expected[2], groups), atol=1e-4)


CASES = [
    pytest.param(2, 1, "same", 1, id="two groups"),
    pytest.param(3, 2, "valid", 1, id="an odd number, strided"),
    pytest.param(16, 2, "same", 1, id="more groups than super-groups"),
    pytest.param(12, 1, "same", 2, id="dilated"),
    pytest.param(48, 1, "same", 1, id="one channel each"),
]


@pytest.mark.parametrize(("groups", "strides", "padding", "dilation"), CASES)
def test_it_equals_a_dense_convolution_with_zeros_between_the_groups(groups, strides, padding, dilation):
    assert_equals_its_twin(groups, strides, padding, dilation)


def test_all_that_holds_without_onednn_too():
    """In another process, because TensorFlow reads the variable when it is imported."""
    tests = [
        test_it_equals_a_dense_convolution_with_zeros_between_the_groups,
        test_exported_to_a_saved_model_it_is_equal,
    ]
    names = [f"{__file__}::{test.__name__}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *names]
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def trains_in_groups():
    """Whether TensorFlow's own convolution does: with oneDNN, which it leaves alone on some processors."""
    maps, kernel = tf.ones((1, 4, 4, 4)), tf.ones((3, 3, 2, 4))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        out = tf.nn.conv2d(maps, kernel, 1, "SAME")
    try:
        tape.gradient(out, maps)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    return True


def test_the_plain_gradient_is_used_where_there_is_one():
    assert has_grouped_gradient("float32") is trains_in_groups()
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        assert not has_grouped_gradient("float32")


def test_a_dtype_that_onednn_does_not_train_trains_too():
    keras.utils.set_random_seed(0)
    x = keras.random.normal(SHAPE)
    single = GroupedConv2D(96, 3, groups=16, padding="same")
    half = GroupedConv2D(96, 3, groups=16, padding="same", dtype="mixed_float16")
    for layer in (single, half):
        layer.build(SHAPE)
    half.set_weights(single.get_weights())
    for given, expected in zip(forward_and_gradients(half, x), forward_and_gradients(single, x), strict=True):
        np.testing.assert_allclose(given, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


def test_compiled_it_is_not_left_to_xla_on_a_cpu():
    images = keras.Input((8, 8, 4))
    model = keras.Model(images, GroupedConv2D(4, 3, groups=2)(images))
    model.compile("sgd", "mse")
    assert model.jit_compile is bool(keras.distribution.list_devices("gpu"))


@pytest.fixture(scope="module")
def tiny():
    """Two convolutions in groups between stock layers."""
    keras.utils.set_random_seed(1)
    images = keras.Input((16, 16, 3), name="images")
    x = keras.layers.Conv2D(32, 3, 2, name="stem")(images)
    x = GroupedConv2D(32, 3, groups=16, padding="same", name="first")(x)
    x = GroupedConv2D(64, 3, 2, groups=2, name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="global_pool")(x)
    x = keras.layers.Dense(3, kernel_initializer="random_normal", name="fc")(x)
    model = keras.Model(images, keras.layers.Activation("softmax")(x), name="tiny")
    return zoo.attach(model, zoo.Facts("tiny", ("a", "b", "c"), zoo.Preprocessing((16, 16))))


def groups_in(path):
    """The group count of every convolution of an ONNX file."""
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    return [next((a.i for a in node.attribute if a.name == "group"), 1) for node in nodes]


def compiled_by_xla(folder):
    proto = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    functions = proto.meta_graphs[0].graph_def.library.function
    return [f.signature.name for f in functions if "_XlaMustCompile" in f.attr]


def test_exported_to_a_saved_model_it_is_equal(tiny, tmp_path):
    """The exporter opens what it wrote and compares."""
    exported = exporters.export(tiny, tmp_path / "tiny", ["saved_model"])
    assert compiled_by_xla(exported.path) == []


def test_exported_to_onnx_it_is_one_operation(tiny, tmp_path):
    exported = exporters.export(tiny, tmp_path / "tiny", ["onnx"])
    assert sorted(groups_in(exported.path / "model.onnx")) == [1, 2, 16]


def test_no_saved_model_of_a_resnext_asks_for_xla(tmp_path):
    """Written by Keras's own export, which checks nothing."""
    architecture, weights = resolve("resnext50_32x4d")
    network = build(architecture, weights, classes=2, input_size=(32, 32))
    network.export(tmp_path / "network", verbose=False)
    assert compiled_by_xla(tmp_path / "network") == []
