"""Image modules of TensorFlow Hub as Classifiers: `zoo.load("hub:HANDLE", classes=5)`.

Reusable TF2 SavedModels (https://www.tensorflow.org/hub/reusable_saved_models) that take RGB pictures in
[0, 1] and give vectors or scores (https://www.tensorflow.org/hub/common_signatures/images). A module is a
program that TensorFlow runs: load those of publishers you trust.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import keras
from keras import layers

from zoo.arguments import ANY_SIZE, Size, fixed, sides
from zoo.build import OUTPUT, activate, normalise
from zoo.classifier import Facts, attach
from zoo.digests import sha256_of
from zoo.errors import DownloadError, ZooError
from zoo.labels import imagenet_labels
from zoo.preprocessing import Preprocessing
from zoo.weights import cache
from zoo.weights.archives import extract
from zoo.weights.download import download, record_of

PREFIX = "hub:"
GRAPH = "saved_model.pb"
TF1 = "tfhub_module.pb"
OURS = "card.json"
SIZE = 224  # pixels per side, for modules that take any
CLASSIFIER = "classifier"


def load(
    handle: str,
    *,
    classes: int | Sequence[str] | None = None,
    input_size: int | Size | None = None,
    classifier_activation: str | None = "softmax",
    drop_rate: float | None = None,
) -> keras.Model:
    """The module as a Classifier: pictures [N, H, W, 3] in 0..255 -> [N, classes].

    handle: a folder, the URL of a .tar.gz archive, or a URL that a hub answers with one. classes: a number
    or the labels, for a new head on the module's vectors; without them the module's output is taken for the
    scores of its own classes. input_size: the module's, and 224 for one that takes any.

    URLs are downloaded once, into TFHUB_CACHE_DIR (laid out as TensorFlow Hub does) or the zoo's cache.
    Raises DownloadError, WeightsError for a damaged or hostile archive, and ZooError for a folder that is no
    such module (the TF1 Hub format, a SavedModel that cannot be called) and for a size that it cannot take.
    """
    if keras.backend.backend() != "tensorflow":
        raise ZooError("modules of TensorFlow Hub need Keras on TensorFlow; set KERAS_BACKEND=tensorflow")
    module = _open(handle)
    size = _size(handle, module, sides(input_size))
    preprocessing = Preprocessing(fixed(size, (SIZE, SIZE)), mean=(0.0,) * 3, std=(1.0,) * 3)
    images = keras.Input((*size, 3), name="images")
    vectors = module(normalise(images, preprocessing))
    if len(getattr(vectors, "shape", ())) != 2:
        raise ZooError(f'"{handle}" does not give one vector [N, D] for each picture: no image classifier')
    labels = _labels(classes, vectors.shape[-1])
    scores = _head(vectors, labels, classes is not None, drop_rate)
    model = keras.Model(images, activate(scores, classifier_activation, OUTPUT), name=_name(handle))
    card = {"hub": handle, "sha256": module.digest}
    return attach(model, Facts(f"{PREFIX}{handle}", labels, preprocessing, card))


@keras.saving.register_keras_serializable("zoo")
class HubModule(layers.TFSMLayer):
    """The module as a layer, pictures in 0..1: training goes through it where it was traced for that.

    handle: for messages; digest: the sha256 of its graph, by which `resolve`d modules are found again. So a
    file from elsewhere that has this layer runs no graph that the user did not load before.
    """

    def __init__(self, handle: str, digest: str, **options: Any) -> None:
        folder = _recall(handle, digest)
        super().__init__(os.fspath(folder), call_endpoint="__call__", **{**options, "dtype": "float32"})
        self.handle, self.digest = handle, digest
        self.supports_jit = False

    @property
    def image_size(self) -> tuple[int | None, int | None]:
        """(height, width) that the module was traced for; None: any."""
        spec = self.call_endpoint_fn.concrete_functions[0].structured_input_signature[0][0]
        height, width = spec.shape[1:3]
        return height, width

    def call(self, images: Any, training: bool = False) -> Any:
        modes = [_mode(function) for function in self.call_endpoint_fn.concrete_functions]
        if training and self.trainable and True in modes:
            for loss in getattr(self._reloaded_obj, "regularization_losses", ()):
                self.add_loss(loss())
            return self.call_endpoint_fn(images, training=True)
        return (
            self.call_endpoint_fn(images, training=False) if False in modes else self.call_endpoint_fn(images)
        )

    def get_config(self) -> dict[str, Any]:
        return {**layers.Layer.get_config(self), "handle": self.handle, "digest": self.digest}

    # Keras refuses TFSMLayers in files, because they name a folder; this one names what was loaded before.
    @classmethod
    def from_config(cls, config: dict[str, Any], *_: Any, **__: Any) -> HubModule:
        return cls(**config)


def resolve(handle: str) -> Path:
    """The folder of a module: the path itself, or where the cache has the URL's archive unpacked.

    Raises ZooError for a folder that holds no module, DownloadError, WeightsError.
    """
    scheme, _, _ = handle.partition("://")
    if scheme in ("http", "https"):
        folder = _cached(handle)
    elif scheme != handle:
        raise ZooError(f'"{handle}": {scheme}:// is not read; download the module and give its folder')
    else:
        folder = Path(handle).expanduser().absolute()
    _check(handle, folder)
    return folder


def _check(handle: str, folder: Path) -> None:
    if not folder.is_dir():
        raise ZooError(f'"{handle}" is not a folder; give a folder with a {GRAPH}, or the URL of a module')
    if (folder / TF1).exists():
        raise ZooError(
            f'"{handle}" is in the TF1 Hub format ({TF1}), which TensorFlow 2 cannot train; '
            "take a version of it that is a TF2 SavedModel"
        )
    if not (folder / GRAPH).is_file():
        raise ZooError(f'"{handle}" holds no {GRAPH}: it is no TF2 SavedModel')
    if (folder / OURS).exists():
        raise ZooError(f'"{handle}" was exported by this library; load the model.keras or model.h5 beside it')


def _cached(handle: str) -> Path:
    """As TensorFlow Hub names its folders, so that both find what the other has downloaded."""
    home = Path(os.environ.get("TFHUB_CACHE_DIR") or cache.folder() / "hub")
    folder = home / hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
    if folder.is_dir():
        return folder
    archive = download(_compressed(handle), home / f"{folder.name}.tar.gz")
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=f"{folder.name}.", suffix=".tmp") as partial:
            unpacked = Path(partial) / "module"
            unpacked.mkdir()
            extract(archive, unpacked)
            _check(handle, unpacked)
            with suppress(OSError):  # another process was first
                unpacked.rename(folder)
    except OSError as error:
        raise DownloadError(f"{handle}: cannot be unpacked in {home}: {error.strerror}") from error
    finally:
        for file in (archive, record_of(archive)):
            file.unlink(missing_ok=True)
    (home / f"{folder.name}.descriptor.txt").write_text(f"Module: {handle}\n")
    return folder


def _compressed(handle: str) -> str:
    """The address at which a hub answers with the archive."""
    parts = urlsplit(handle)
    query = urlencode([*parse_qsl(parts.query), ("tf-hub-format", "compressed")])
    return urlunsplit(parts._replace(query=query))


def _open(handle: str) -> HubModule:
    folder = resolve(handle)
    digest = sha256_of(folder / GRAPH)
    record = _record(digest)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(f"{folder}\n", "utf-8")
    try:
        return HubModule(handle, digest, name="module")
    except ZooError:
        raise
    except Exception as error:  # TensorFlow has many for a damaged file
        if "__call__" in str(error):
            raise ZooError(f'"{handle}" is no reusable TF2 SavedModel: it has no __call__') from error
        raise ZooError(f'"{handle}" cannot be loaded: {error}') from error


def _record(digest: str) -> Path:
    """Where the folder of a module that was loaded once is written down."""
    return cache.folder() / "hub" / f"{digest}.path"


def _recall(handle: str, digest: str) -> Path:
    record = _record(digest) if re.fullmatch(r"[0-9a-f]{64}", digest) else None
    folder = Path(record.read_text("utf-8").strip()) if record and record.is_file() else None
    if folder is None or not (folder / GRAPH).is_file() or sha256_of(folder / GRAPH) != digest:
        raise ZooError(
            f"the model is built on a module of TensorFlow Hub that was not loaded here before: if you "
            f'trust it, zoo.load("{PREFIX}{handle}") first'
        )
    return folder


def _mode(function: Any) -> Any:
    """The value of `training` that the module was traced with; None where it has no such argument."""
    args, kwargs = function.structured_input_signature
    return {**dict(zip(function.function_type.parameters, args, strict=False)), **kwargs}.get("training")


def _size(handle: str, module: HubModule, asked: Size | None) -> Size:
    height, width = module.image_size
    if asked is None:
        return height or SIZE, width or SIZE
    if (height or asked[0], width or asked[1]) != asked:
        wanted = "any" if asked == ANY_SIZE else f"{asked[0]} x {asked[1]}"
        raise ZooError(f'"{handle}" takes pictures of {height} x {width} pixels, not {wanted}')
    return asked


def _labels(classes: int | Sequence[str] | None, width: int) -> tuple[str, ...]:
    if classes is not None and not isinstance(classes, int):
        return tuple(classes)
    if classes is None and width in (1000, 1001):
        return (("background",) if width == 1001 else ()) + imagenet_labels()
    count = width if classes is None else classes
    if count < 1:
        raise ZooError(f"classes must be at least 1, not {count}")
    return tuple(str(i) for i in range(count))


def _head(vectors: Any, labels: tuple[str, ...], new: bool, drop_rate: float | None) -> Any:
    if not new:
        return layers.Identity(name=CLASSIFIER)(vectors)
    x = layers.Dropout(drop_rate, name="drop")(vectors) if drop_rate else vectors
    return layers.Dense(len(labels), name=CLASSIFIER)(x)


def _name(handle: str) -> str:
    """A name for graphs and files: google_mobilenet_v2_5 of https://host/google/mobilenet_v2/5."""
    path = urlsplit(handle).path if "://" in handle else Path(handle).name
    return re.sub(r"\W+", "_", path.removesuffix(".tar.gz")).strip("_") or "module"
