"""Writes the models that TensorFlow Serving's own tests serve, in the form they have there, below a folder:
`python make_models.py OUT`. A process of its own, because it needs TensorFlow twice, as 1 and as 2.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.core.protobuf import saved_model_pb2

v1 = tf.compat.v1
SIGNATURES = v1.saved_model.signature_def_utils


def half_plus(out: Path, addend: float, tags: Sequence[str] = ("serve",), as_text: bool = False) -> None:
    """TensorFlow 1: y = x / 2 + addend on a tensor and on tf.Examples, for Predict, Classify and Regress; the
    init op reads an asset.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        half, plus, plus_three = (
            v1.get_variable(n, initializer=v) for n, v in zip("abc", (0.5, addend, 3.0), strict=True)
        )
        serialised = v1.placeholder(tf.string, name="tf_example")
        parsed = v1.parse_example(
            serialised, {n: v1.FixedLenFeature([1], tf.float32, default_value=[0.0]) for n in ("x", "x2")}
        )
        for feature in parsed.values():
            feature.set_shape([None, 1])
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(half * x, plus, name="y")
        y2 = tf.add(half * x, plus_three, name="y2")
        x2 = tf.identity(parsed["x2"], name="x2")
        y3 = tf.add(half * x2, plus_three, name="y3")
        asset = out.parent / "foo.txt"
        asset.write_text("asset-file-contents")
        asset_name = tf.constant(str(asset), name="filename_tensor")
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset_name)
        content = v1.get_variable("asset_content", initializer="", trainable=False)
        init = tf.group(v1.assign(content, tf.io.read_file(asset_name)))
        session.run([v1.global_variables_initializer(), init])
        builder = v1.saved_model.Builder(str(out / "00000123"))
        builder.add_meta_graph_and_variables(
            session,
            list(tags),
            signature_def_map={
                "regress_x_to_y": SIGNATURES.regression_signature_def(serialised, y),
                "regress_x_to_y2": SIGNATURES.regression_signature_def(serialised, y2),
                "regress_x2_to_y3": SIGNATURES.regression_signature_def(serialised, y3),
                "classify_x_to_y": SIGNATURES.classification_signature_def(serialised, None, y),
                "classify_x2_to_y3": SIGNATURES.classification_signature_def(serialised, None, y3),
                "serving_default": SIGNATURES.predict_signature_def({"x": x}, {"y": y}),
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=init,
        )
        builder.save(as_text=as_text)


def counter(out: Path) -> None:
    """TensorFlow 1 with a variable by reference, which only a session runs."""
    with tf.Graph().as_default(), v1.Session() as session:
        count = v1.get_variable("counter", initializer=0.0, use_resource=False)
        add = v1.assign_add(count, 1.0)
        by = v1.placeholder(tf.float32, [], name="delta")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(out / "00000123"))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "get_counter": _bare({}, tf.identity(count)),
                "incr_counter": _bare({}, tf.identity(add)),
                "incr_counter_by": _bare({"delta": by}, tf.identity(v1.assign_add(count, by))),
            },
        )
        builder.save()


def _bare(inputs: dict[str, tf.Tensor], output: tf.Tensor) -> object:
    """A signature that may have no inputs, which predict_signature_def refuses."""
    info = v1.saved_model.build_tensor_info
    return SIGNATURES.build_signature_def(
        {alias: info(tensor) for alias, tensor in inputs.items()},
        {"output": info(output)},
        "tensorflow/serving/predict",
    )


class HalfPlusTwo(tf.Module):
    """TensorFlow 2: the same function; Predict takes exactly one number."""

    def __init__(self) -> None:
        self.half, self.two, self.three = (tf.Variable(value) for value in (0.5, 2.0, 3.0))

    def _parse(self, serialised: tf.Tensor, name: str) -> tf.Tensor:
        feature = tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])
        return tf.io.parse_example(serialised, {name: feature})[name]

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, "x")])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.half * x + self.two}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": self.half * self._parse(inputs, "x") + self.two}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self.half * self._parse(inputs, "x") + self.two}


def half_plus_two_tf2(out: Path) -> None:
    model, version = HalfPlusTwo(), out / "00000123"
    tf.saved_model.save(
        model,
        str(version),
        signatures={
            "serving_default": model.predict,
            "classify_x_to_y": model.classify,
            "regress_x_to_y": model.regress,
        },
    )
    # As upstream's: the signatures name the methods that they answer.
    file = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for name in ("classify", "regress"):
        saved.meta_graphs[0].signature_def[f"{name}_x_to_y"].method_name = f"tensorflow/serving/{name}"
    file.write_bytes(saved.SerializeToString())


TEN = tf.constant(10.0)


class Loose(tf.Module):
    """A default, and two outputs of which one fails unless x holds two numbers."""

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, "x"), tf.TensorSpec([], tf.float32, "by")]
    )
    def predict(self, x: tf.Tensor, by: tf.Tensor = TEN) -> dict[str, tf.Tensor]:
        return {"times": x * by, "pair": tf.reshape(x, [1, 2])}


def loose(out: Path) -> None:
    model = Loose()
    tf.saved_model.save(model, str(out / "1"), signatures=model.predict)


def saved(out: Path) -> None:
    """One number times six; the second model has a signature of another name, and a scalar result."""
    for folder, named in ((out / "saved", False), (out / "saved_multiple", True)):
        module = tf.Module()
        number = tf.TensorSpec([1], tf.float32, "x")
        module.six = tf.function(lambda x: {"y": x * 6.0}, input_signature=[number])
        module.one = tf.function(lambda x: {"y": tf.reduce_sum(x) * 0.5}, input_signature=[number])
        module.two = tf.function(lambda x: {"y": tf.reduce_sum(x)}, input_signature=[number])
        signatures = {"serving_default": module.one, "custom_signature_key": module.two}
        tf.saved_model.save(
            module, str(folder / "1"), signatures if named else {"serving_default": module.six}
        )


def half_plus_two_tflite(out: Path, described: Path) -> None:
    """x and y are all that the first file knows; the second tells in its metadata which tensor is x."""
    for folder, content in ((out, lite("x")), (described, with_signature(lite("tflite_input")))):
        (folder / "00000123").mkdir(parents=True)
        (folder / "00000123" / "model.tflite").write_bytes(content)


def lite(name: str) -> bytes:
    """y = x / 2 + 2 of one number, as TensorFlow 1 converts it: without a signature."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [1], name=name)
        y = tf.add(x * 0.5, 2.0, name="y")
        return v1.lite.TFLiteConverter.from_session(session, [x], [y]).convert()


def with_signature(model: bytes) -> bytes:
    """The file with a SignatureDef in its metadata, as TensorFlow Lite's signature tool writes it."""
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    definition = SignatureDef(method_name="tensorflow/serving/predict")
    definition.inputs["x"].name, definition.outputs["y"].name = "tflite_input:0", "y"
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("serving_default")
        # As there, a string of bytes; these happen to be text.
        builder.String(definition.SerializeToString().decode("ascii"))
    parsed = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(bytes(builder.Finish()), np.uint8)
    parsed.buffers.append(buffer)
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = "signature_defs_metadata", len(parsed.buffers) - 1
    parsed.metadata = [*(parsed.metadata or []), metadata]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


if __name__ == "__main__":
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    half_plus(root / "half_plus_two", 2.0)
    half_plus(root / "half_plus_three", 3.0)
    half_plus(root / "as_text", 5.0, ["serve", "gpu"], as_text=True)
    half_plus_two_tf2(root / "half_plus_two_tf2")
    counter(root / "counter")
    loose(root / "loose")
    saved(root)
    half_plus_two_tflite(root / "half_plus_two_tflite", root / "half_plus_two_tflite_with_sigdef")
