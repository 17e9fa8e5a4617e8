"""The conventions of one set of weights, and the layers made by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keras import layers

from zoo.blocks.channelwise import Tensor, gated, round_channels
from zoo.blocks.pools import POOLINGS
from zoo.initializers import QuickHeUniform
from zoo.layers import DeviationNormalization, EvoNormalization, GroupedConv2D, PointwiseConv2D


@dataclass(frozen=True)
class Net:
    """The conventions that one set of weights was trained with, and the layers made by them.

    padding: "torch" pads k // 2 on both sides of a strided window, "same" as TensorFlow does. drop_path is
    the rate of stochastic depth at the last block (Huang et al., arXiv 1603.09382); it grows linearly from
    0 at the first. dropout is the rate after a hidden linear layer, for the networks that have some.
    pooling is how the last map becomes a vector, one of POOLINGS. start makes the initializer of a kernel.
    """

    padding: str = "torch"
    epsilon: float = 1e-5
    momentum: float = 0.9
    activation: str | Callable[[Tensor], Tensor] = "relu"
    drop_path: float = 0.0
    dropout: float = 0.0
    pooling: str = "avg"
    start: Callable[[], Any] = QuickHeUniform

    def conv(
        self,
        x: Tensor,
        filters: int,
        kernel: int | tuple[int, int],
        name: str,
        stride: int = 1,
        *,
        bias: bool = False,
        groups: int = 1,
        dilation: int = 1,
        padding: str | None = None,
    ) -> Tensor:
        """padding "valid" is for the few networks that shrink their maps; else the convention decides."""
        x, border = (x, padding) if padding else self._pad(x, kernel, stride, name)
        sparse = kernel == 1 and stride > 1 and groups == 1 and x.shape[-1] < 16
        conv = (PointwiseConv2D if sparse else self.conv_layer(groups))(
            filters,
            kernel,
            stride,
            border,
            dilation_rate=dilation,
            use_bias=bias,
            kernel_initializer=self.start(),
            name=name,
        )
        return conv(x)

    def conv_layer(self, groups: int) -> Callable[..., Any]:
        """What makes a convolution; networks with another kind of it override this."""
        return partial(GroupedConv2D, groups=groups) if groups > 1 else layers.Conv2D

    def depthwise(
        self,
        x: Tensor,
        kernel: int | tuple[int, int],
        name: str,
        stride: int = 1,
        *,
        bias: bool = False,
        dilation: int = 1,
        padding: str | None = None,
    ) -> Tensor:
        x, border = (x, padding) if padding else self._pad(x, kernel, stride, name)
        conv = layers.DepthwiseConv2D(
            kernel,
            stride,
            border,
            dilation_rate=dilation,
            use_bias=bias,
            depthwise_initializer=self.start(),
            name=name,
        )
        return conv(x)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layers.BatchNormalization(epsilon=self.epsilon, momentum=self.momentum, name=name)(x)

    def act(self, x: Tensor, name: str) -> Tensor:
        return layers.Activation(self.activation, name=name)(x)

    def norm_act(self, x: Tensor, name: str) -> Tensor:
        return self.act(self.norm(x, name), f"{name}.act")

    def conv_norm(
        self, x: Tensor, filters: int, kernel: int, conv: str, norm: str, stride: int = 1
    ) -> Tensor:
        return self.norm(self.conv(x, filters, kernel, conv, stride), norm)

    def conv_norm_act(
        self, x: Tensor, filters: int, kernel: int, conv: str, norm: str, stride: int = 1
    ) -> Tensor:
        return self.norm_act(self.conv(x, filters, kernel, conv, stride), norm)

    def unit(
        self,
        x: Tensor,
        filters: int,
        kernel: int | tuple[int, int],
        name: str,
        stride: int = 1,
        *,
        bias: bool = False,
        padding: str | None = None,
    ) -> Tensor:
        """Convolution, norm, activation, named NAME.conv and NAME.bn: the brick of the Inception networks."""
        x = self.conv(x, filters, kernel, f"{name}.conv", stride, bias=bias, padding=padding)
        return self.norm_act(x, f"{name}.bn")

    def pre_unit(
        self,
        x: Tensor,
        filters: int,
        kernel: int,
        name: str,
        stride: int = 1,
        *,
        bias: bool = False,
        groups: int = 1,
        dilation: int = 1,
    ) -> Tensor:
        """The same the other way round, NAME.bn before NAME.conv. He et al., arXiv 1603.05027."""
        x = self.norm_act(x, f"{name}.bn")
        return self.conv(
            x, filters, kernel, f"{name}.conv", stride, bias=bias, groups=groups, dilation=dilation
        )

    def chain(
        self,
        x: Tensor,
        units: Sequence[tuple[int, int | tuple[int, int]]],
        prefix: str,
        first: int = 0,
        *,
        stride: int = 1,
        bias: bool = False,
        padding: str | None = None,
    ) -> Tensor:
        """A branch of units, each (filters, kernel), named PREFIX0, PREFIX1, ... from `first`. Stride and
        padding are the last unit's.
        """
        last = first + len(units) - 1
        for number, (filters, kernel) in enumerate(units, start=first):
            step, border = (stride, padding) if number == last else (1, None)
            x = self.unit(x, filters, kernel, f"{prefix}{number}", step, bias=bias, padding=border)
        return x

    def linear(self, x: Tensor, units: int, name: str, bias: bool = True) -> Tensor:
        """A hidden layer of a classifier, vectors [N, D] -> [N, units], or of every place's vector."""
        return layers.Dense(units, use_bias=bias, kernel_initializer=self.start(), name=name)(x)

    def drop(self, x: Tensor, name: str) -> Tensor:
        return layers.Dropout(self.dropout, name=name)(x) if self.dropout else x

    def add(self, shortcut: Tensor, residual: Tensor, name: str, position: float) -> Tensor:
        """Shortcut + residual; in training the residual of a whole picture is dropped at a rate that grows
        with position 0..1.
        """
        if self.drop_path and position:
            rate = self.drop_path * position
            residual = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}.drop_path")(residual)
        return layers.Add(name=f"{name}.add")([shortcut, residual])

    def global_pool(self, x: Tensor, name: str = "global_pool", keepdims: bool = False) -> Tensor:
        """Maps [N, H, W, C] -> [N, C], or [N, 1, 1, C] with keepdims; one place is left as it is."""
        one_place = tuple(x.shape[1:3]) == (1, 1)
        return POOLINGS["avg" if one_place else self.pooling](x, name, keepdims)

    def squeeze_excite(
        self,
        x: Tensor,
        squeezed: int,
        name: str,
        convs: tuple[str, str] = ("conv_reduce", "conv_expand"),
        *,
        activation: str | None = None,
        gate: str = "sigmoid",
        norm: str | None = None,
    ) -> Tensor:
        """Channel attention. Hu et al., arXiv 1709.01507."""
        reduce, expand = convs
        s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.pool")(x)
        s = self.conv(s, squeezed, 1, f"{name}.{reduce}", bias=True)
        s = self.norm(s, f"{name}.{norm}") if norm else s
        s = layers.Activation(activation or self.activation, name=f"{name}.act")(s)
        s = self.conv(s, x.shape[-1], 1, f"{name}.{expand}", bias=True)
        return gated(x, s, gate, name)

    def squeeze_part(self, x: Tensor, name: str, *, part: float, activation: str | None = None) -> Tensor:
        """`squeeze_excite` to a part of the channels, as timm rounds it and names its layers."""
        squeezed = round_channels(x.shape[-1] * part, limit=0)
        return self.squeeze_excite(x, squeezed, name, convs=("fc1", "fc2"), activation=activation)

    def excite(self, x: Tensor, name: str, conv: str = "fc", gate: str = "sigmoid") -> Tensor:
        """Channel attention that squeezes nothing. Lee and Park, arXiv 1911.06667."""
        s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.pool")(x)
        s = self.conv(s, x.shape[-1], 1, f"{name}.{conv}", bias=True)
        return gated(x, s, gate, name)

    def global_context(self, x: Tensor, squeezed: int, name: str, *, add: bool = False) -> Tensor:
        """Channel attention to a mean of the places that counts each by what it shows; with `add`, what it
        makes of them is added, instead of a gate. Cao et al., arXiv 1904.11492.
        """
        mlp = f"{name}.mlp_{'add' if add else 'scale'}"
        channels = x.shape[-1]
        weights = self.conv(x, 1, 1, f"{name}.conv_attn", bias=True)
        weights = layers.Reshape((-1, 1), name=f"{name}.weights")(weights)
        weights = layers.Softmax(axis=1, name=f"{name}.softmax")(weights)
        places = layers.Reshape((-1, channels), name=f"{name}.places")(x)
        s = layers.Dot(axes=1, name=f"{name}.context")([weights, places])
        s = layers.Reshape((1, 1, channels), name=f"{name}.squeezed")(s)
        s = self.conv(s, squeezed, 1, f"{mlp}.fc1", bias=True)
        s = layers.LayerNormalization(epsilon=1e-6, name=f"{mlp}.norm")(s)
        s = self.conv(self.act(s, f"{name}.act"), channels, 1, f"{mlp}.fc2", bias=True)
        return layers.Add(name=f"{name}.add")([x, s]) if add else gated(x, s, "sigmoid", name)

    def _pad(self, x: Tensor, kernel: int | tuple[int, int], stride: int, name: str) -> tuple[Tensor, str]:
        if stride > 1 and self.padding == "torch" and kernel not in (1, (1, 1)):
            sides = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
            return layers.ZeroPadding2D(sides, name=f"{name}.pad")(x), "valid"
        return x, "same"


@dataclass(frozen=True)
class LeakyNet(Net):
    """A little of what is negative passes: the slope's part."""

    slope: float = 0.01

    def act(self, x: Tensor, name: str) -> Tensor:
        return layers.LeakyReLU(self.slope, name=name)(x)


class GroupNet(Net):
    """Norms over 32 groups of a picture's channels, not over the batch. Wu and He, arXiv 1803.08494."""

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layers.GroupNormalization(32, epsilon=self.epsilon, name=name)(x)


class LayerNet(Net):
    """Norms over the channels of each place. Ba et al., arXiv 1607.06450."""

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layers.LayerNormalization(epsilon=self.epsilon, name=name)(x)


class DeviationNet(Net):
    """The same without taking off the mean."""

    def norm(self, x: Tensor, name: str) -> Tensor:
        return DeviationNormalization(self.epsilon, name=name)(x)


class RootNet(Net):
    """The channels of each place divided by the root of their mean square. Zhang and Sennrich, arXiv
    1910.07467.
    """

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layers.RMSNormalization(epsilon=self.epsilon, name=name)(x)


def map_norm(net: Net, x: Tensor, name: str, *, center: bool = True) -> Tensor:
    """Over the whole map of a picture."""
    return layers.GroupNormalization(1, epsilon=net.epsilon, center=center, name=name)(x)


def instance_norm(x: Tensor, name: str, epsilon: float = 1e-5) -> Tensor:
    """Every channel of a picture by its own mean and deviation. Ulyanov et al., arXiv 1607.08022."""
    return layers.GroupNormalization(x.shape[-1], epsilon=epsilon, name=name)(x)


@dataclass(frozen=True)
class EvoNet(Net):
    """Norm and activation in one, over groups of `group` channels, or over 32 groups."""

    group: int = 0

    def norm(self, x: Tensor, name: str) -> Tensor:
        return self._evolved(x, name, active=False)

    def norm_act(self, x: Tensor, name: str) -> Tensor:
        return self._evolved(x, name, active=True)

    def _evolved(self, x: Tensor, name: str, *, active: bool) -> Tensor:
        groups = x.shape[-1] // self.group if self.group else 32
        return EvoNormalization(groups, self.epsilon, active, name=name)(x)


NORMS: dict[str, type[Net]] = {
    "batch": Net,
    "group": GroupNet,
    "layer": LayerNet,
    "deviation": DeviationNet,
    "root": RootNet,
    "evo": EvoNet,
}
