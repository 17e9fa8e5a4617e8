"""A network cut in two for fine-tuning: the bottom, computed once, and the top, which learns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import keras
import numpy as np
from keras import layers

from zoo.build import OUTPUT
from zoo.layers import TwinDense
from zoo.outputs import classifier_layer, features_of, nodes
from zoo.training.answers import answers
from zoo.training.device import jit
from zoo.training.forms import computed_as, fastest_forms

SOFT = "soft"


@dataclass(frozen=True)
class Network:
    """The same layers seen five ways.

    whole: images [N, H, W, 3] -> probabilities [N, C]; bottom: images -> maps; top: maps -> logits [N, C], or
    a dict of them, "predictions" and one for each auxiliary head above the cut; embed: maps -> features
    [N, D]; head: features -> logits.
    """

    whole: keras.Model
    bottom: keras.Model
    top: keras.Model
    embed: keras.Model
    head: keras.Model

    def answer(self, images: np.ndarray, at_once: int) -> np.ndarray:
        """images [N, H, W, 3] -> probabilities [N, C], by the parts, which are traced already."""
        features = answers(self.embed, answers(self.bottom, images, at_once), at_once)
        return self.probabilities(self.head(features))

    def probabilities(self, logits: Any) -> np.ndarray:
        """Both [N, C]."""
        return keras.ops.convert_to_numpy(self.whole.get_layer(OUTPUT)(logits))

    @property
    def whole_learns(self) -> bool:
        """Whether the bottom is nothing but the pictures."""
        return not self.bottom.weights


def prepare(model: keras.Model, classes: int, top: float, activation: str = "softmax") -> Network:
    """The model's layers with new heads, cut so that the fraction `top` of its weighted layers is above.

    activation: what makes probabilities of the logits.
    """
    old = classifier_layer(model)
    images, features = model.inputs[0], features_of(old)
    x = features
    before = old.input._keras_history.operation
    if isinstance(before, layers.Dropout):
        x = layers.Dropout(before.rate, name="drop")(x)
    logits = _new_classifier(x, classes, old)
    probabilities = layers.Activation(activation, dtype="float32", name=OUTPUT)(logits)
    trunk = keras.Model(images, features)
    maps = cut(trunk, top)
    embed = keras.Model(maps, features, name="embed")
    sides = _sides(model, trunk, embed, classes)
    network = Network(
        whole=keras.Model(images, probabilities, name=model.name),
        bottom=keras.Model(images, maps, name="bottom"),
        top=keras.Model(maps, {OUTPUT: logits, **sides} if sides else logits, name="top"),
        embed=embed,
        head=keras.Model(features, logits, name="head"),
    )
    _compile_parts(network)
    return network


def _compile_parts(network: Network) -> None:
    """What they answer by is traced anew after this."""
    for part in (network.bottom, network.embed):
        part.compile(jit_compile=jit())


def _new_classifier(x: Any, classes: int, old: Any) -> Any:
    """From zero, as Big Transfer does (Kolesnikov et al., arXiv 1912.11370): every seed starts alike."""
    kind = type(old) if isinstance(old, TwinDense) else layers.Dense
    # keras.applications' classifiers have the name that is the output's here.
    name = "logits" if old.name == OUTPUT else old.name
    return kind(classes, kernel_initializer="zeros", name=name)(x)


def _sides(model: keras.Model, trunk: keras.Model, embed: keras.Model, classes: int) -> dict[str, Any]:
    """New logits of the auxiliary heads that stand on layers which learn."""
    outputs = model.output if isinstance(model.output, dict) else {}
    below = {layer.name for layer in trunk.layers}
    learning = {layer.name for layer in embed.layers}
    sides = {}
    for name in outputs.keys() - {OUTPUT}:
        side = keras.Model(model.inputs[0], outputs[name])
        stands_on = [layer.name for layer in side.layers if layer.name in below][-1]
        if stands_on in learning:
            old = classifier_layer(side)
            sides[name] = _new_classifier(old.input, classes, old)
    return dict(sorted(sides.items()))


def logits_of(outputs: Any) -> Any:
    """What belongs to the network's own classifier, where a model gives several outputs."""
    return outputs[OUTPUT] if isinstance(outputs, dict) else outputs


def with_soft_output(model: keras.Model, temperature: float) -> keras.Model:
    """The same model with one output more, "soft": its logits over the temperature."""
    logits = logits_of(model.output)
    outputs = model.output if isinstance(model.output, dict) else {OUTPUT: logits}
    soft = layers.Rescaling(1 / temperature, dtype="float32", name=SOFT)(logits)
    return keras.Model(model.inputs[0], {**outputs, SOFT: soft}, name=model.name)


def cut(model: keras.Model, top: float) -> Any:
    """The highest tensor below the wanted fraction that alone feeds all above it; never the output, and the
    pictures themselves where no weights would be below.
    """
    order = [node for node in nodes(model) if not node.is_input]
    last_use = {id(tensor): i for i, node in enumerate(order) for tensor in node.input_tensors}
    last_call = {id(node.operation): i for i, node in enumerate(order)}
    used = [max(last_use.get(id(tensor), i) for tensor in node.outputs) for i, node in enumerate(order)]
    called = [last_call[id(node.operation)] for node in order]
    # How far what lies below is still used, and a layer called again: one must not learn above the cut alone.
    used_until, called_until = [0, *accumulate(used, max)], [*accumulate(called, max)]
    weighted = np.cumsum([i == last and _is_weighted(order[i].operation) for i, last in enumerate(called)])
    allowed = (1 - top) * (weighted[-1] + 1)
    chosen = [
        i
        for i, node in enumerate(order[:-1])
        if 0 < weighted[i] <= allowed
        and len(node.outputs) == 1
        and used_until[i] <= i
        and called_until[i] <= i
    ]
    return order[chosen[-1]].outputs[0] if chosen else model.inputs[0]


def _is_weighted(layer: Any) -> bool:
    """As papers count depth: a normalisation is part of its convolution."""
    return bool(getattr(layer, "weights", ())) and not isinstance(layer, layers.BatchNormalization)


@contextmanager
def learning(model: keras.Model, freeze_norms: bool) -> Iterator[None]:
    """The model as it learns; afterwards it is a plain one again."""
    with frozen_norms(model) if freeze_norms else nullcontext(), computed_as(model, fastest_forms()):
        yield


@contextmanager
def frozen_norms(model: keras.Model) -> Iterator[None]:
    """BatchNorm keeps statistics, scale and shift, and works as at inference."""
    norms = [
        layer for layer in model.layers if isinstance(layer, layers.BatchNormalization) and layer.trainable
    ]
    for layer in norms:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in norms:
            layer.trainable = True


@contextmanager
def precision(network: Network, policy: str) -> Iterator[None]:
    """The layers compute as the policy of Keras says; their variables, and all of it afterwards, are float32.

    Probabilities stay float32. Micikevicius et al., arXiv 1710.03740.
    """
    before = {
        layer: layer.dtype_policy
        for layer in (*network.whole.layers, *network.top.layers)
        if policy != layer.dtype_policy.name and layer.name != OUTPUT
    }
    for layer in before:
        layer.dtype_policy = policy
    try:
        yield
    finally:
        for layer, old in before.items():
            layer.dtype_policy = old
        if before:
            _compile_parts(network)


def fingerprint(model: keras.Model) -> str:
    """32 hex digits that name the network's weights and input size."""
    digest = hashlib.blake2b(repr((model.name, model.input_shape)).encode(), digest_size=16)
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()
