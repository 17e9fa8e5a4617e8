"""Which networks and weights there are: the catalog as frozen data, without TensorFlow or Keras."""

from __future__ import annotations

import difflib
import fnmatch
import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from zoo.errors import UnknownModelError, did_you_mean
from zoo.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

IMAGENET = "ImageNet-1k"
HUB_FILE = "model.safetensors"


@dataclass(frozen=True)
class Weights:
    """One published set of weights: where it is, its licence, and the conventions of its training.

    input_size is in pixels, top1 and top5 in percent on the validation or test set of `pictures` at
    input_size (at test_input_size for the *_test ones); labels name the classes where those of `pictures` do
    not; padding and epsilon are those of zoo.blocks.Net, build what else of the network was another when
    these weights were trained. channels are those of the file's first kernel, "rgb" or "bgr". layout "keras":
    it is a file of keras.applications (zoo.weights.keras_layout), with the given order of layers. file is
    that of the package, or without one that of the hub's repository, where it is not model.safetensors. md5,
    sha1 and sha256 are the file's, as published; where url is a .zip's, those of the one inside.
    """

    architecture: str
    tag: str
    licence: str = "unknown"
    hub: str | None = None
    url: str | None = None
    sha256: str | None = None
    md5: str | None = None
    sha1: str | None = None
    package: str | None = None
    file: str | None = None
    renames: tuple[tuple[str, str], ...] = ()
    layout: str = "reference"
    order: tuple[str, ...] = ()
    channels: str = "rgb"
    classes: int = 1000
    pictures: str = IMAGENET
    labels: tuple[str, ...] | None = None
    input_size: int = 224
    test_input_size: int | None = None
    crop: float = 0.875
    test_crop: float | None = None
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    padding: str = "torch"
    epsilon: float = 1e-5
    build: dict[str, Any] = field(default_factory=dict)
    top1: float | None = None
    top5: float | None = None
    top1_test: float | None = None
    top5_test: float | None = None
    source: str | None = None
    remark: str | None = None

    @property
    def name(self) -> str:
        return f"{self.architecture}.{self.tag}"

    @property
    def published_name(self) -> str | None:
        """The name under which the hub knows these weights, for instance tf_efficientnet_b0.in1k; None where
        a repository has several.
        """
        return self.hub.partition("/")[2] if self.hub and self.hub_file == HUB_FILE else None

    @property
    def hub_file(self) -> str:
        """What holds the weights in the hub's repository."""
        return HUB_FILE if self.package or not self.file else self.file

    @property
    def timm_name(self) -> str | None:
        """What timm calls the network with these weights' conventions, for instance tf_efficientnet_b0."""
        return self.published_name.partition(".")[0] if self.published_name else None

    @property
    def licence_id(self) -> str:
        """The licence without what is remarked on it: "mit" of "mit (its authors; ...)"."""
        return self.licence.partition(" (")[0]

    @property
    def accuracy(self) -> float | None:
        """Top-1 on ImageNet-1k in percent, the better of input_size and test_input_size; None: not stated."""
        stated = [v for v in (self.top1, self.top1_test) if v is not None and self.classes == 1000]
        return max(stated, default=None)

    @property
    def preprocessing(self) -> Preprocessing:
        size = (self.input_size, self.input_size)
        return Preprocessing(size, self.crop, self.interpolation, self.mean, self.std)


@dataclass(frozen=True)
class Published:
    """What is stated of a network whose weights are not public in a form that is read here: top1 and top5 in
    percent on the validation or test set of `pictures`.
    """

    top1: float
    source: str
    top5: float | None = None
    pictures: str = IMAGENET


@dataclass(frozen=True)
class Auxiliary:
    """A second classifier in the middle of a network: behind which layer it stands, the name of its last
    layer, the weight of its loss where the network's own has 1, and the least side of a picture.
    """

    after: str
    classifier: str
    loss_weight: float
    smallest: int = 32


@dataclass(frozen=True)
class Architecture:
    """One network of a family: how to build it and what is known of it.

    classes are those of a fresh network. smallest is the least side of a picture, in pixels. head is
    "linear" (pool, then classify), "unbiased" (the same without a bias), "convolution" (classify each place,
    then pool), "twin" (pool, then the mean of two norms and linear layers) or "plain_twin" (of two linear
    layers). pointwise is a pattern of the names of linear layers that the reference keeps as 1x1
    convolutions. auxiliary are heads beside the trunk that help in training. embedding is the layer, in front
    of the classifier, whose vectors were trained; timm has it for a classifier. sized: timm makes it for one
    size of pictures.
    """

    name: str
    family: str
    title: str
    paper: str
    year: int
    brought: str
    builder: str
    build: dict[str, Any]
    classifier: str
    params: int
    macs: int
    macs_size: int
    default: str | None
    depth: int | None = None
    dropout: float = 0.0
    drop_path: float = 0.0
    classes: int = 1000
    smallest: int = 32
    head: str = "linear"
    pointwise: str | None = None
    embedding: str | None = None
    sized: bool = False
    published: Published | None = None
    auxiliary: dict[str, Auxiliary] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)

    @property
    def best(self) -> Weights | None:
        """The weights of the highest stated accuracy; None where no accuracy is stated."""
        stated = [weights for weights in self.weights.values() if weights.accuracy is not None]
        return max(stated, key=lambda weights: weights.accuracy or 0, default=None)

    @property
    def accuracy(self) -> float | None:
        """Top-1 on ImageNet-1k in percent of the best weights, else as published without them."""
        if self.best:
            return self.best.accuracy
        return self.published.top1 if self.published and self.published.pictures == IMAGENET else None


@dataclass(frozen=True)
class Card:
    """What a person wants to know before choosing a network.

    Sizes in pixels; macs are the multiply-adds of one image at macs_size; accuracy is that of the weights, in
    percent; published is what is known without any.
    """

    name: str
    family: str
    title: str
    paper: str
    year: int
    brought: str
    depth: int | None
    parameters: int
    macs: int
    macs_size: int
    input_size: tuple[int, int] | None
    accuracy: dict[str, float]
    licence: str | None
    weights: tuple[Weights, ...] = field(repr=False)
    published: Published | None = None
    auxiliary: dict[str, Auxiliary] = field(default_factory=dict)


def list_models(
    pattern: str = "*",
    *,
    pretrained: bool | None = None,
    family: str | None = None,
    year: int | None = None,
    max_params: int | None = None,
    max_macs: int | None = None,
    min_accuracy: float | None = None,
    licence: str | None = None,
) -> list[str]:
    """Names of the architectures that match the wildcard and the facts.

    max_macs counts multiply-adds of one image at the architecture's macs_size. min_accuracy is the top-1 in
    percent that one of its weights at least has; licence the identifier of one of its weights' licence
    ("apache-2.0", "cc-by-nc-4.0"), in any case of letters, remarks in brackets left out; with both, the same
    weights have both. With pretrained=True the names of the weights themselves, ARCHITECTURE.TAG, that do;
    with False the architectures without any. Raises UnknownModelError for an unknown family.
    """
    families = {architecture.family for architecture in _architectures().values()}
    if family is not None and family not in families:
        hint = did_you_mean(family, families, f"there are: {', '.join(sorted(families))}")
        raise UnknownModelError(f'unknown family "{family}"; {hint}')

    def fits(weights: Weights) -> bool:
        return (min_accuracy is None or (weights.accuracy or -1) >= min_accuracy) and (
            licence is None or weights.licence_id.lower() == licence.lower()
        )

    found = [
        architecture
        for architecture in _architectures().values()
        if (family is None or architecture.family == family)
        and (year is None or architecture.year == year)
        and (max_params is None or architecture.params <= max_params)
        and (max_macs is None or architecture.macs <= max_macs)
        and (pretrained is None or bool(architecture.weights) == pretrained)
        and ((min_accuracy is None and licence is None) or any(map(fits, architecture.weights.values())))
    ]
    if pretrained:
        names = [weights.name for a in found for weights in a.weights.values() if fits(weights)]
    else:
        names = [architecture.name for architecture in found]
    return [
        name
        for name in names
        if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name.partition(".")[0], pattern)
    ]


def describe(name: str) -> Card:
    """The card of an architecture, of ARCHITECTURE.TAG, or of what users publish: "hf-hub:USER/REPOSITORY" or
    such a folder, whose config.json is read. UnknownModelError gives the nearest names.
    """
    if not is_known(name):
        # What reads them takes longer to import than the catalog to be read.
        from zoo.weights.opening import open_repository
        from zoo.weights.repository import is_repository

        if is_repository(name):
            found = open_repository(name)
            return replace(card(found.architecture, found.weights), weights=(found.weights,))
    architecture, weights = resolve(name)
    return card(architecture, weights)


def card(architecture: Architecture, weights: Weights | None) -> Card:
    accuracy = {} if weights is None else {k: v for k in ACCURACY if (v := getattr(weights, k)) is not None}
    return Card(
        name=weights.name if weights else architecture.name,
        family=architecture.family,
        title=architecture.title,
        paper=architecture.paper,
        year=architecture.year,
        brought=architecture.brought,
        depth=architecture.depth,
        parameters=architecture.params,
        macs=architecture.macs,
        macs_size=architecture.macs_size,
        input_size=weights.preprocessing.input_size if weights else None,
        accuracy=accuracy,
        licence=weights.licence if weights else None,
        weights=tuple(architecture.weights.values()),
        published=architecture.published,
        auxiliary=architecture.auxiliary,
    )


ACCURACY = ("top1", "top5", "top1_test", "top5_test")


def resolve(name: str) -> tuple[Architecture, Weights | None]:
    """FAMILY, ARCHITECTURE, ARCHITECTURE.TAG or a published alias -> its architecture and weights.

    Raises UnknownModelError naming the nearest architectures, or the nearest tags of the architecture.
    """
    stem, _, tag = name.partition(".")
    architecture, default = _by_name(stem)
    if not tag:
        return architecture, architecture.weights.get(default) if default else None
    weights = weights_of(architecture, tag, published=name)
    return architecture, weights


def is_known(name: str) -> bool:
    """Whether the part before a tag is a FAMILY, an ARCHITECTURE or a published alias."""
    stem = name.partition(".")[0]
    return stem in _architectures() or stem in _families() or stem in _aliases()


def weights_of(architecture: Architecture, tag: str, published: str | None = None) -> Weights:
    """The tagged weights of an architecture; a name as the hub publishes it finds them too."""
    for weights in architecture.weights.values():
        if weights.published_name == published:
            return weights
    if tag in architecture.weights:
        return architecture.weights[tag]
    near = _nearest(tag, list(architecture.weights))
    known = ", ".join(architecture.weights) or "none"
    default = f" (by default {architecture.default})" if architecture.default else ""
    raise UnknownModelError(f'{architecture.name} has no weights "{tag}"{near}; it has: {known}{default}')


def _by_name(stem: str) -> tuple[Architecture, str | None]:
    architectures, families, aliases = _architectures(), _families(), _aliases()
    if stem in architectures:
        return architectures[stem], architectures[stem].default
    if stem in families:
        return _by_name(families[stem])
    if stem in aliases:
        architecture, tag = aliases[stem]
        return architectures[architecture], tag
    # Keras's own spellings would be the nearest to all that is written in small letters without a stroke.
    near = _nearest(stem, [*families, *architectures, *filter(str.islower, aliases)])
    raise UnknownModelError(f'unknown model "{stem}"{near or "; zoo.list_models() names all"}')


def _nearest(word: str, names: list[str]) -> str:
    """The closest names, in any case of letters: one where it stands out, else a few."""
    lower = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(word.lower(), lower, n=3)
    likeness = [difflib.SequenceMatcher(None, name, word.lower()).ratio() for name in near]
    close = [lower[name] for name, ratio in zip(near, likeness, strict=True) if ratio > likeness[0] - 0.03]
    return "; did you mean " + " or ".join(f'"{name}"' for name in close) + "?" if close else ""


@cache
def _catalog() -> dict[str, dict[str, Any]]:
    paths = sorted(
        (p for p in files("zoo.catalog").iterdir() if p.name.endswith(".toml")), key=lambda p: p.name
    )
    return {p.name.removesuffix(".toml"): tomllib.loads(p.read_text("utf-8")) for p in paths}


@cache
def _families() -> dict[str, str]:
    """Family name -> its default architecture."""
    return {name: facts["family"]["default"] for name, facts in _catalog().items()}


@cache
def _aliases() -> dict[str, tuple[str, str]]:
    """Other names of an architecture -> the architecture and the tag they stand for, "" where it has none."""
    return {alias: (a.name, tag) for a in _architectures().values() for alias, tag in a.aliases.items()}


@cache
def _architectures() -> dict[str, Architecture]:
    return {
        name: _architecture(name, facts, family)
        for family in _catalog().values()
        for name, facts in family["architectures"].items()
    }


def _architecture(name: str, facts: dict[str, Any], catalog: dict[str, Any]) -> Architecture:
    family = {k: v for k, v in catalog["family"].items() if k not in ("name", "default")}
    tables = {k: tuple(map(tuple, pairs)) for k, pairs in catalog.get("renames", {}).items()}
    own = {k: v for k, v in facts.items() if k != "weights"}
    orders = {k: tuple(patterns) for k, patterns in catalog.get("orders", {}).items()}
    weights = {tag: _weights(name, tag, w, tables, orders) for tag, w in facts.get("weights", {}).items()}
    merged = {"default": None, **family, **own, "family": catalog["family"]["name"]}
    heads = {k: Auxiliary(**v) for k, v in merged.get("auxiliary", {}).items()}
    published = Published(**merged["published"]) if "published" in merged else None
    return replace(Architecture(name=name, **merged), weights=weights, auxiliary=heads, published=published)


def _weights(
    architecture: str, tag: str, facts: dict[str, Any], tables: dict[str, Any], orders: dict[str, Any]
) -> Weights:
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    renames = tables[plain.pop("renames")] if "renames" in plain else ()
    order = orders[plain.pop("order")] if "order" in plain else ()
    return Weights(architecture=architecture, tag=tag, renames=renames, order=order, **plain)
