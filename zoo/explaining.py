"""What a network looks at: heat maps over a picture, the first layer's filters, a class's favourite picture.

Class activation maps, SmoothGrad and activation maximisation are tf-keras-vis's; integrated gradients and
occlusion, which it lacks, are here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.classifier import facts
from zoo.errors import ZooError, did_you_mean
from zoo.outputs import heads
from zoo.plotting import new_figure, png, write_png
from zoo.precision import float32_policy, in_float32, in_one_graph
from zoo.preprocessing import Picture, evaluate
from zoo.quiet import several_networks

IG_STEPS = 32  # points on the line from grey to the picture; Sundararajan et al. use 20 to 300
SMOOTH_SAMPLES = 20
AT_ONCE = 200_000  # pixels whose activations are kept for their gradients: four pictures of 224 x 224
OCCLUDED = 1 / 6  # of the picture's side
GREY = 127.5


@dataclass(frozen=True, eq=False)
class Explanation:
    """label and probability: the class that is explained; picture: uint8 [h, w, 3] as the network saw it;
    maps: by method, float32 [h, w] in 0..1, high where the class comes from.
    """

    label: str
    probability: float
    picture: np.ndarray = field(repr=False)
    maps: dict[str, np.ndarray] = field(repr=False)

    def save(self, path: str | PathLike[str]) -> Path:
        """A PNG: the picture, then every map over it."""
        return write_png(self._figure(), path)

    def _repr_png_(self) -> bytes:
        """The same, for notebooks."""
        return png(self._figure())

    def _figure(self) -> Any:
        panels = {f"{self.label} {self.probability:.2f}": None, **self.maps}
        return _grid([(title, self.picture, heat) for title, heat in panels.items()])


@float32_policy()
@several_networks()
def explain(
    model: keras.Model,
    picture: Picture,
    methods: str | Sequence[str] = ("gradcam", "integrated_gradients", "occlusion"),
    *,
    label: str | None = None,
) -> Explanation:
    """Where in the picture does a Classifier see the class `label`, by default its first answer?

    picture: what zoo.preprocessing.read_image takes. methods: one or several of gradcam (Selvaraju et
    al., arXiv 1610.02391), gradcam++ (1710.11063), layercam (Jiang et al., TIP 2021), saliency (SmoothGrad,
    1706.03825), integrated_gradients (1703.01365), occlusion (Zeiler and Fergus, 1311.2901).

    Raises ZooError for an unknown method or label, where tf-keras-vis is not installed, and for all methods
    but occlusion on another backend of Keras than tensorflow; DataError for what is no picture.
    """
    known = facts(model)
    methods = (methods,) if isinstance(methods, str) else methods
    for method in methods:
        _known("method", method, METHODS)
    shown = evaluate(known.preprocessing, picture)
    images = shown[None].astype(np.float32)
    answers = _answers(model)
    probabilities = np.asarray(answers(images)["probabilities"])[0]
    place = int(probabilities.argmax()) if label is None else _place(known.labels, label)
    network = _logits(answers)
    maps = {method: _scaled(METHODS[method](network, images, place)) for method in methods}
    return Explanation(known.labels[place], float(probabilities[place]), shown, maps)


def gradcams(model: keras.Model, images: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Grad-CAM of many pictures at once: images [N, h, w, 3] as the network takes them, the index of the
    class to look for in each -> float32 [N, h, w] in 0..1. Raises as `explain` does.
    """
    network = _logits(_answers(model))
    size = max(1, AT_ONCE // (images.shape[1] * images.shape[2]))
    found = [
        heat
        for start in range(0, len(images), size)
        for heat in _cams(
            "gradcam",
            "Gradcam",
            network,
            images[start : start + size].astype(np.float32),
            places[start : start + size],
        )
    ]
    return np.stack([_scaled(heat) for heat in found])


def filters(model: keras.Model, path: str | PathLike[str]) -> Path:
    """A PNG of the first convolution's kernels, each between its smallest and its largest weight."""
    layer = next((v for v in model.layers if getattr(v, "kernel", None) is not None), None)
    if layer is None or len(layer.kernel.shape) != 4 or layer.kernel.shape[2] != 3:
        raise ZooError(f'the first layer with weights of "{model.name}" is no convolution of RGB pictures')
    kernels = np.moveaxis(np.asarray(layer.kernel), -1, 0)
    figure = _grid([("", (255 * _scaled(kernel)).astype(np.uint8), None) for kernel in kernels])
    return write_png(figure, path)


@float32_policy()
def favourite(model: keras.Model, label: str, steps: int = 200) -> np.ndarray:
    """A picture that the network is surest to be `label`, found by gradient ascent from noise: uint8 [h, w,
    3]. Erhan et al., 2009; with random shifts, rotations and a penalty on noise.
    """
    vis = _tf_keras_vis()
    place = _place(facts(model).labels, label)
    search = vis["activation_maximization"].ActivationMaximization(_logits(_answers(model)), clone=False)
    found = search(vis["utils.scores"].CategoricalScore([place]), steps=steps, input_range=(0.0, 255.0))
    return np.asarray(found)[0].clip(0, 255).astype(np.uint8)


def _answers(model: keras.Model) -> keras.Model:
    """zoo.heads, of layers that no other graph has: tf-keras-vis looks where a layer was used first."""
    return heads(in_float32(in_one_graph(model)))


def _logits(answers: keras.Model) -> keras.Model:
    """Of what zoo.heads gives, the logits alone."""
    return keras.Model(answers.inputs, answers.output["logits"], name=answers.name)


def _place(labels: Sequence[str], label: str) -> int:
    _known("label", label, labels)
    return list(labels).index(label)


def _known(what: str, name: str, known: Any) -> None:
    if name not in known:
        hint = did_you_mean(name, known, f"there are: {', '.join(list(known)[:10])}")
        raise ZooError(f'unknown {what} "{name}"; {hint}')


def _scaled(values: np.ndarray) -> np.ndarray:
    """To 0..1."""
    values = np.asarray(values, np.float32)
    return (values - values.min()) / max(float(np.ptp(values)), 1e-12)


def _cam(home: str, name: str) -> Callable[[keras.Model, np.ndarray, int], np.ndarray]:
    return lambda network, images, place: _cams(home, name, network, images, [place])[0]


def _cams(
    home: str, name: str, network: keras.Model, images: np.ndarray, places: Sequence[int]
) -> np.ndarray:
    """One map for each image, of its own class."""
    vis = _tf_keras_vis()
    cam = getattr(vis[home], name)(network, clone=False)
    score = vis["utils.scores"].CategoricalScore(list(places))
    return cam(score, images, penultimate_layer=_last_map(network))


def _last_map(network: keras.Model) -> str:
    """The last layer that still knows places."""
    for layer in reversed(network.layers):
        shape: tuple[int | None, ...] = () if isinstance(layer.output, dict | list) else layer.output.shape
        if len(shape) == 4 and min(shape[1] or 2, shape[2] or 2) > 1:
            return layer.name
    raise ZooError(f'"{network.name}" has no feature maps')


def _saliency(network: keras.Model, images: np.ndarray, place: int) -> np.ndarray:
    vis = _tf_keras_vis()
    saliency = vis["saliency"].Saliency(network, clone=False)
    score = vis["utils.scores"].CategoricalScore([place])
    return saliency(score, images, smooth_samples=SMOOTH_SAMPLES, smooth_noise=0.2)[0]


def _integrated_gradients(network: keras.Model, images: np.ndarray, place: int) -> np.ndarray:
    _check_backend()
    import tensorflow as tf

    @tf.function
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = network([x], training=False)[:, place]
        return tape.gradient(score, x)

    shares = (np.arange(IG_STEPS, dtype=np.float32) + 0.5) / IG_STEPS
    total = np.zeros_like(images)
    for share in shares:
        total += gradient(tf.constant(GREY + share * (images - GREY))).numpy()
    return np.abs((images - GREY) * total / IG_STEPS).sum(axis=-1)[0]


def _occlusion(network: keras.Model, images: np.ndarray, place: int) -> np.ndarray:
    """What the class loses when a grey square covers each place, half a square apart."""
    height, width = images.shape[1:3]
    side = max(2, round(OCCLUDED * min(height, width)))
    corners = [(y, x) for y in range(0, height, side // 2) for x in range(0, width, side // 2)]
    covered = np.repeat(images, len(corners), axis=0)
    for one, (y, x) in zip(covered, corners, strict=True):
        one[y : y + side, x : x + side] = GREY
    batches = [network.predict_on_batch([covered[i : i + 32]]) for i in range(0, len(covered), 32)]
    scores = np.concatenate(batches)[:, place]
    whole = float(network.predict_on_batch([images])[0, place])
    lost, times = np.zeros((2, height, width), np.float32)
    for score, (y, x) in zip(scores, corners, strict=True):
        lost[y : y + side, x : x + side] += max(whole - score, 0)
        times[y : y + side, x : x + side] += 1
    return lost / times


METHODS: dict[str, Callable[[keras.Model, np.ndarray, int], np.ndarray]] = {
    "gradcam": _cam("gradcam", "Gradcam"),
    "gradcam++": _cam("gradcam_plus_plus", "GradcamPlusPlus"),
    "layercam": _cam("layercam", "Layercam"),
    "saliency": _saliency,
    "integrated_gradients": _integrated_gradients,
    "occlusion": _occlusion,
}


def _tf_keras_vis() -> dict[str, Any]:
    """Its modules by name. Raises ZooError where it is not installed or cannot work."""
    from importlib import import_module

    _check_backend()
    names = ("gradcam", "gradcam_plus_plus", "layercam", "saliency", "activation_maximization")
    try:
        return {name: import_module(f"tf_keras_vis.{name}") for name in (*names, "utils.scores")}
    except ImportError as error:
        raise ZooError("explaining needs tf-keras-vis: pip install 'cnn-zoo[explain]'") from error


def _check_backend() -> None:
    """Gradients are taken by TensorFlow's tape."""
    if keras.backend.backend() != "tensorflow":
        raise ZooError(
            f"this explanation needs Keras on TensorFlow, not {keras.backend.backend()}: set "
            "KERAS_BACKEND=tensorflow, or take the method occlusion"
        )


def _grid(panels: list[tuple[str, np.ndarray, np.ndarray | None]]) -> Any:
    """Titles, pictures and the maps over them, side by side in rows of at most eight."""
    columns = min(8, len(panels))
    rows = -(-len(panels) // columns)
    scale = 3 if len(panels) <= 8 else 1
    figure = new_figure(scale * columns, scale * rows + 0.2)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in places:
        ax.axis("off")
    for ax, (title, picture, heat) in zip(places, panels, strict=False):
        ax.imshow(picture)
        if heat is not None:
            ax.imshow(heat, cmap="jet", alpha=0.5, vmin=0, vmax=1)
        ax.set_title(title.replace("_", " ").replace("$", r"\$"), fontsize=10)
    return figure
