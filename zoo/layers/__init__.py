"""Layers that Keras lacks, or has in a form that neither exports nor trains well. Registered under "zoo".

`reference_names` maps a variable to its name in the reference's state dict where that is not the usual one;
"" where it goes by the layer's. `sides_of`: which of several inputs has the sides of what comes out.
"""

import keras

from zoo.layers.activations import gelu_tanh
from zoo.layers.attention import (
    AdditiveAttention,
    Attention,
    CrossAttention,
    CrossCovariance,
    FirstTokenAttention,
    HeadwiseAttention,
    LinearAttention,
    MultiQueryAttention,
    SeparableAttention,
    SpacedAttention,
    Tokens,
)
from zoo.layers.bilinear import BilinearTransform, Strips
from zoo.layers.convolutions import (
    ConditionalConv2D,
    GroupedConv2D,
    PointwiseConv2D,
    StandardizedConv2D,
    for_conversion,
    has_grouped_gradient,
)
from zoo.layers.deformable import DeformableAggregation
from zoo.layers.factors import Affine, BareScale, ChannelScale, Scale, SkipGain
from zoo.layers.heads import GeneralizedMeanPooling2D, NormedTwinDense, PlainTwinDense, TwinDense
from zoo.layers.maps import (
    AcrossChannels,
    AdaptiveAverage,
    Blur,
    FirstPlaces,
    Grey,
    HalvingBorder,
    LastWindow,
    Nearest,
    PairSum,
    Regroup,
    SelectChannels,
    SpaceToDepth,
    WholeSteps,
)
from zoo.layers.neighbours import Neighbours, WeighNeighbours
from zoo.layers.norms import (
    DeviationNormalization,
    EvoNormalization,
    LocalResponseNormalization,
    ResponseNormalization,
)
from zoo.layers.partitions import (
    DisplacementAddends,
    KeyDisplacementAddends,
    LogDisplacements,
    PartAttention,
)
from zoo.layers.positions import Coordinates, FourierPositions, LearnedPositions
from zoo.layers.relative import (
    BiasedAttention,
    BiasedSelfAttention,
    CommonLambda,
    GlobalLambdas,
    HaloAttention,
    IndexedAttention,
    JoinedAttention,
    JoinedSelfAttention,
    LocalLambdas,
    RelativeAttention,
)
from zoo.layers.resampling import Double, Stretch, ToGrid
from zoo.layers.spectra import GlobalFilter
from zoo.layers.windows import (
    WholeWindows,
    WindowAddends,
    WindowAttention,
    WindowDepthwiseConv2D,
    WindowSelfAttention,
)

__all__ = [
    "AcrossChannels",
    "AdaptiveAverage",
    "AdditiveAttention",
    "Affine",
    "Attention",
    "BareScale",
    "BiasedAttention",
    "BiasedSelfAttention",
    "BilinearTransform",
    "Blur",
    "ChannelScale",
    "CommonLambda",
    "ConditionalConv2D",
    "Coordinates",
    "CrossAttention",
    "CrossCovariance",
    "DeformableAggregation",
    "DeviationNormalization",
    "DisplacementAddends",
    "Double",
    "EvoNormalization",
    "FirstPlaces",
    "FirstTokenAttention",
    "FourierPositions",
    "GeneralizedMeanPooling2D",
    "GlobalFilter",
    "GlobalLambdas",
    "Grey",
    "GroupedConv2D",
    "HaloAttention",
    "HalvingBorder",
    "HeadwiseAttention",
    "IndexedAttention",
    "JoinedAttention",
    "JoinedSelfAttention",
    "KeyDisplacementAddends",
    "LastWindow",
    "LearnedPositions",
    "LinearAttention",
    "LocalLambdas",
    "LocalResponseNormalization",
    "LogDisplacements",
    "MultiQueryAttention",
    "Nearest",
    "Neighbours",
    "NormedTwinDense",
    "PairSum",
    "PartAttention",
    "PlainTwinDense",
    "PointwiseConv2D",
    "Regroup",
    "RelativeAttention",
    "ResponseNormalization",
    "Scale",
    "SelectChannels",
    "SeparableAttention",
    "SkipGain",
    "SpaceToDepth",
    "SpacedAttention",
    "StandardizedConv2D",
    "Stretch",
    "Strips",
    "ToGrid",
    "Tokens",
    "TwinDense",
    "WeighNeighbours",
    "WholeSteps",
    "WholeWindows",
    "WindowAddends",
    "WindowAttention",
    "WindowDepthwiseConv2D",
    "WindowSelfAttention",
    "for_conversion",
    "gelu_tanh",
    "has_grouped_gradient",
]

if keras.backend.backend() == "torch":
    from zoo.torch_names import allow_dots

    allow_dots()
