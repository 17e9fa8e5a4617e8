"""A TensorFlow 2 SavedModel with the four signatures, the labels as an asset, and every weight stored once.

It is also a reusable SavedModel (https://www.tensorflow.org/hub/reusable_saved_models): __call__(images,
training), variables, trainable_variables, regularization_losses. `serve` and `train` are the two modes of
that call, by the names that keras.layers.TFSMLayer takes. Its images are RGB 0..255 at the input size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from exporters.errors import ExportError
from exporters.pictures import png
from exporters.subject import Subject
from zoo.classifier import named
from zoo.outputs import gives_logits
from zoo.preprocessing import MAX_PIXELS, Preprocessing, tf_decode, tf_evaluate

CLASSIFY = "tensorflow/serving/classify"
XLA = "_XlaMustCompile"

Tensors = dict[str, tf.Tensor]
IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")


def write(model: Subject, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".labels-") as staging:
        labels = Path(staging) / "labels.txt"
        labels.write_text("".join(f"{label}\n" for label in model.facts.labels), "utf-8")
        root, signed = servable(model, labels)
        tf.saved_model.save(root, os.fspath(folder), signed)
    _finish(folder)


def servable(model: Subject, labels: Path) -> tuple[Any, dict[str, Any]]:
    """A trackable object, and its signatures. The network is traced once and called by each.

    All are concrete functions: TensorFlow traces others anew while it saves, and stores both traces.
    """
    root: Any = tf.train.Checkpoint()
    # Keras's variables and TensorFlow's inside them would be stored as two objects.
    root.variables = [variable.value for variable in model.model.variables]
    root.trainable_variables = [variable.value for variable in model.model.trainable_variables]
    root.regularization_losses = penalties(model)
    root.labels = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            os.fspath(labels),
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
        ),
        default_value="",
    )
    root.network = model.traced
    run = partial(with_any_batch, root.network)
    call, root.serve, root.train = reusable(model, run)
    setattr(root, "__call__", call)  # noqa: B010 (tracked as an attribute of the object, not of its class)
    return root, signatures(model, run, root.labels)


def with_any_batch(network: Callable[[tf.Tensor], Tensors], images: tf.Tensor) -> Tensors:
    """The network's outputs for images [N, h, w, 3] at the input size, N >= 0."""
    count = tf.shape(images)[0]
    # oneDNN's convolutions fail on an empty batch.
    filler = tf.zeros((tf.maximum(1 - count, 0), *images.shape[1:]))
    return {name: tensor[:count] for name, tensor in network(tf.concat([images, filler], 0)).items()}


def graph(inputs: Sequence[tf.TensorSpec]) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for functions without Python's control flow over tensors."""
    return tf.function(input_signature=inputs, autograph=False)


def signatures(model: Subject, run: Callable[[tf.Tensor], Tensors], labels: Any) -> dict[str, Any]:
    preprocessing = model.facts.preprocessing

    def classified(images: tf.Tensor) -> Tensors:
        probabilities = run(images)["probabilities"]
        scores, indices = tf.math.top_k(probabilities, named(len(model.facts.labels), model.facts.task))
        classes = labels.lookup(tf.cast(indices, tf.int64))
        return {"probabilities": probabilities, "classes": classes, "scores": scores}

    decode = graph([tf.TensorSpec((None,), tf.string)])(partial(decoded, preprocessing))
    fit = graph([IMAGES])(partial(fitted, preprocessing))

    @graph([tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def serving_default(image_bytes: tf.Tensor) -> Tensors:
        return classified(decode(image_bytes))

    @graph([IMAGES])
    def predict_images(images: tf.Tensor) -> Tensors:
        return classified(fit(images))

    @graph([tf.TensorSpec((None,), tf.string, name="inputs")])
    def classify(inputs: tf.Tensor) -> Tensors:
        encoded = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature((), tf.string)})[
            "image/encoded"
        ]
        outputs = classified(decode(encoded))
        return {name: outputs[name] for name in ("classes", "scores")}

    @graph([IMAGES])
    def features(images: tf.Tensor) -> Tensors:
        return {"features": run(fit(images))["features"]}

    functions = (serving_default, predict_images, classify, features)
    return {function.__name__: function.get_concrete_function() for function in functions}


def decoded(preprocessing: Preprocessing, encoded: tf.Tensor) -> tf.Tensor:
    """Encoded pictures [N] -> float32 [N, h, w, 3] at the input size."""

    def one(data: tf.Tensor) -> tf.Tensor:
        return resized(preprocessing, tf_decode(data)[None])[0]

    shape = (*preprocessing.input_size, 3)
    return tf.map_fn(one, encoded, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def fitted(preprocessing: Preprocessing, images: tf.Tensor) -> tf.Tensor:
    """Pictures of another size are resized in whole numbers, as decoded ones; at the input size they pass
    as is.
    """

    def whole() -> tf.Tensor:
        finite = tf.where(tf.math.is_nan(images), tf.zeros_like(images), images)
        return resized(preprocessing, tf.round(tf.clip_by_value(finite, 0, 255)))

    same = tf.reduce_all(tf.shape(images)[1:3] == preprocessing.input_size)
    return tf.ensure_shape(tf.cond(same, lambda: images, whole), (None, *preprocessing.input_size, 3))


def resized(preprocessing: Preprocessing, images: tf.Tensor) -> tf.Tensor:
    """`tf_evaluate`, but for a thread-like picture, which would grow without bound as its short side is
    scaled up.
    """
    sides = tf.cast(tf.shape(images)[1:3], tf.int64)
    grown = tf.reduce_max(sides) * max(preprocessing.scale_size) ** 2 // tf.maximum(tf.reduce_min(sides), 1)
    limit = tf.constant(MAX_PIXELS, tf.int64)
    checks = [
        tf.debugging.assert_positive(sides, "a picture without pixels"),
        tf.debugging.assert_less_equal(grown, limit, "a picture too long and thin to resize"),
    ]
    with tf.control_dependencies(checks):
        return tf_evaluate(preprocessing, tf.identity(images))


def reusable(model: Subject, run: Callable[[tf.Tensor], Tensors]) -> tuple[Any, Any, Any]:
    """The model itself, as `run` for inference and traced for training on; then each of the two alone.

    While it saves, TensorFlow traces the first anew: it is but a call of the other two.
    """
    predictions = "logits" if gives_logits(model.network) else "probabilities"
    spec = tf.TensorSpec((None, *model.image_shape), tf.float32, name="images")

    serve = graph([spec])(lambda images: run(images)[predictions]).get_concrete_function()
    train = graph([spec])(lambda images: model.network(images, training=True)).get_concrete_function()

    @tf.function(autograph=False)
    def call(images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return train(images) if training else serve(images)

    for training in (False, True):
        call.get_concrete_function(spec, training=training)
    return call, serve, train


def penalties(model: Subject) -> list[Any]:
    """The regularisers of the weights, as functions without arguments."""

    def penalty(variable: Any) -> Any:
        return tf.function(lambda: variable.regularizer(variable.value), input_signature=[])

    return [penalty(v) for v in model.model.trainable_variables if getattr(v, "regularizer", None)]


@dataclass(frozen=True)
class Reopened:
    """The files as tf.saved_model.load gives them back."""

    loaded: Any

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        signed, tensor = self.loaded.signatures, tf.constant(images)
        calls = {
            "logits": lambda: self.loaded.network(tensor),
            "features": lambda: signed["features"](images=tensor),
            "probabilities": lambda: signed["predict_images"](images=tensor),
        }
        return {name: outputs[name].numpy() for name, outputs in at_once(calls).items()}

    def classified(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """float32 [N, H, W, 3] -> the outputs of predict_images."""
        outputs = self.loaded.signatures["predict_images"](images=tf.constant(images))
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def encoded(self, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """uint8 [H, W, 3] of any sizes, as PNG -> serving_default's probabilities, classes and scores.

        Raises ExportError where classify gives other classes or scores for the same pictures in tf.Examples.
        """
        data = [png(picture) for picture in pictures]
        examples = tf.constant([example(encoded) for encoded in data])
        signed = self.loaded.signatures
        answers = at_once(
            {
                "serving_default": lambda: signed["serving_default"](image_bytes=tf.constant(data)),
                "classify": lambda: signed["classify"](inputs=examples),
            }
        )
        outputs = answers["serving_default"]
        for name, tensor in answers["classify"].items():
            if not np.array_equal(tensor.numpy(), outputs[name].numpy()):
                raise ExportError(f"the signatures serving_default and classify give different {name}")
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def at_once(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Each in a thread: TensorFlow optimises the graph of a signature, in one thread, when it first runs."""
    with ThreadPoolExecutor(len(calls)) as pool:
        begun = {name: pool.submit(call) for name, call in calls.items()}
        return {name: future.result() for name, future in begun.items()}


def reopen(model: Subject, folder: Path) -> Reopened:
    return Reopened(tf.saved_model.load(os.fspath(folder)))


def example(encoded: bytes) -> bytes:
    """A picture as a serialised tf.Example."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    return tf.train.Example(
        features=tf.train.Features(feature={"image/encoded": feature})
    ).SerializeToString()


def _finish(folder: Path) -> None:
    """Mark `classify` for TensorFlow Serving's Classify call; TensorFlow itself marks every signature as
    predict.
    """
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (graph,) = saved.meta_graphs
    if any(XLA in function.attr for function in graph.graph_def.library.function):
        raise ExportError(
            "TensorFlow Serving refuses functions that XLA must compile, such as Keras's grouped Conv2D"
        )
    graph.signature_def["classify"].method_name = CLASSIFY
    file.write_bytes(saved.SerializeToString(deterministic=True))
    write_fingerprint(os.fspath(folder))
