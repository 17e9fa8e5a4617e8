"""The rule that golden files rest on: weights from keys and shapes, pictures from sizes.

Every tensor and picture is drawn by NumPy's PCG64, seeded with the CRC-32 of its key: the same numbers on
every machine; the network's name plays no part.
"""

import math
import re
import zlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
CLASSES = 1000

# (keys, factor, addend), the first that fits. Without them deep residual networks explode, and
# squeeze-and-excitation turns deaf to the picture.
SCALES = (
    (r"^layer\d+\.\d+\.bn[23]\.weight$", 0.5, 0),
    (r"^layer\d+\.\d+\.conv[23]\.bn\.weight$", 0.5, 0),
    (r"^layer\d+\.\d+\.conv2\.bn0\.weight$", 0.6, 0),
    (r"^stages\.\d+\.blocks\.\d+\.conv3\.weight$", 0.25, 0),
    (r"^stages\.\d+\.blocks\.\d+\.conv2\.bn\.weight$", 0.25, 0),
    (r"^s\d+\.b\d+\.conv3\.bn\.weight$", 0.3, 0),
    (r"^block\d+\.rep\.\d+\.weight$", 0.5, 0),
    (r"^blocks\.\d+\.stack\.conv\d\.bn_(dw|pw)\.weight$", 0.7, 0),
    (r"^blocks\.\d+\.([3-9]|1\d)\.bn3\.weight$", 0.3, 0),
    (r"^blocks\.\d+\.\d+\.bn3\.weight$", 0.55, 0),
    (r"^blocks\.\d+\.\d+\.conv_exp\.weight$", 0.5, 0),
    (r"^blocks\.\d+\.\d+\.se\.conv_expand\.weight$", 0.3, 0),
    (r"\.self_attn\.norm_[qv]\.weight$", 0.1, 0),
    (r"^blocks\.\d+\.\d+\.se\.conv_expand\.bias$", 1, 2),
    (r"^blocks\.\d+\.\d+\.pw_proj\.bn\.weight$", 0.5, 0),
    (r"^blocks\.\d+\.\d+\.ghost2\.(primary_conv|cheap_operation)\.1\.weight$", 0.25, 0),
    (r"^blocks\.\d+\.\d+\.ghost\d\.fusion_bn\.0\.weight$", 0.25, 0),
    (r"^layers\.\d+\.\d+\.layers\.7\.weight$", 0.5, 0),
    (r"^stage\d+\.\d+\.branch2\.4\.weight$", 0.5, 0),
    (r"^stages\.\d+\.\d+\.(conv_kxk\.bn|conv_1x1\.bn|identity)\.weight$", 0.6, 0),
    (r"^stage\d+\.\d+\.branches\.\d+\.\d+\.bn2\.weight$", 0.3, 0),
    (r"^stage\d+\.\d+\.fuse_layers\.\d+\.\d+\.(\d+\.)?1\.weight$", 0.2, 0),
    (r"^level\d+\..*\.bn2\.weight$", 0.5, 0),
    (r"^features\.conv\d+_\d+\.c1x1_c\.conv\.weight$", 0.5, 0),
    (r"cell_(stem_)?\d+\.conv_(prev_)?1x1\.bn\.weight$", 0.5, 0),
    (r"cell_(stem_)?\d+\.comb_iter_\d_(left|right)\.bn_sep_1\.weight$", 0.6, 0),
    (r"\.sam\.conv_w\.5\.(weight|bias)$", 0.05, 0),
    (r"\.sam\.conv_w\.2\.weight$", 0.3, 0),
    (r"^layer\d+\.\d+\.conv\.weight$", 0.3, 0),
    (r"\.(lab|act1?|res_scale\d)\.scale$|^head\.last_conv\.2\.scale$", 1, 1),
    (r"^stages\.\d+\.\d+\.dwconv2\.conv\.weight$", 0.02, 0),
    (r"^stages\.\d+\.blocks\.\d+\.fc2\.weight$", 0.25, 0),
    (r"^layers\.\d+\.blocks\.\d+\.(modulation\.(h|proj)|mlp\.fc2)\.weight$", 0.2, 0),
    (r"^blocks\.\d+\.\d+\.layer_scale\.gamma$", 1, 0.3),
    (r"\.ghost2\.(primary|cheap)_rpr_(.*bn1|skip)\.weight$", 0.15, 0),
    (r"_rpr_(conv\.\d|scale)\.bn1\.weight$|_rpr_skip\.weight$", 0.45, 0),
    (r"\.channel_mixer\.conv2\.bn\.weight$|\.ffn\.conv2\.bn\.weight$", 0.3, 0),
    (r"\.token_mixer\.(conv1?\.bn|conv1)\.weight$", 0.25, 0),
    (r"\.unit\d+\.(res_unit\.)?body\.conv[23]\.bn\.weight$", 0.5, 0),
    (r"\.unit\d+\.(conv[35]\.bn|expand_bn3|s_evolve_bn)\.weight$", 0.3, 0),
    (r"\.unit\d+\.body\.pw_conv\.bn\.weight$", 0.6, 0),
    (r"\.res_blocks\.\d\.(conv\.)?bn\.weight$", 0.2, 0),
    (r"\.spatial_gating_unit\.conv1\.weight$|\.attn\.proj_2\.weight$", 0.3, 0),
    (r"^backbone\.(blocks\d\.\d+\.mlp\.fc2|stages\.\d\.blocks\.\d+\.pw2\.bn)\.weight$", 0.3, 0),
    (r"^focalnet\..*\.(modulation\.projection_(context|out)|mlp\.fc2)\.weight$", 0.2, 0),
    (r"\.(context|local)_module\.main\.(proj|point_conv)\.norm\.weight$", 0.3, 0),
    (r"\.mixer\.module\.(2|3|proj)\.bn\.weight$", 0.2, 0),
    (r"\.xca\.temperature$", 1, 2),
    (r"\.attn\.qkvs\.\d\.bn\.weight$|\.((ffn\d|res\d\.1)\.m\.pw2|(dw\d|res\d\.0)\.m)\.bn\.weight$", 0.1, 0),
    (r"^stages\.\d\.\d+\.gamma$", 1, 0.2),
    (r"^blocks\d\.\d+\.norm1\.weight$", 0.4, 0),
    (r"^backbone\.network\.\d\.\d+\.layer_scale_\d$", 1, 0.3),
    (r"^blocks\d\.\d+\.(mixer\.(conv1?\.|m\.(proj\.1|qkv)\.)?|ffn\.m\.pw2\.)bn\.weight$", 0.2, 0),
    (r"^features\.15\.1\.weight$", 0.1, 0),
    (r"^levels\.\d\.blocks\.\d+\.gamma[12]$", 1, 0.3),
    (r"^levels\.\d\.blocks\.\d+\.(dcn\.output_proj|mlp\.fc2)\.weight$", 0.3, 0),
    (r"^incre_modules\.\d+\.0\.(bn3|downsample\.1)\.weight$", 0.3, 0),
    (r"\.(attn\.(qkv|proj\.ln)|attn_downsample\.(kv|q\.ln)|mlp\.ln2)\.bn\.weight$", 0.35, 0),
    (r"\.(queries_keys_values|keys_values|queries|projection|linear_down)\.batch_norm\.weight$", 0.35, 0),
    (r"^stage\d\.\d+\.(mlp\.conv3|attn\.(qkv|proj))\.weight$", 0.2, 0),
    (r"\.conv3_1x1\.weight$|\.attn_(block|grid)\.(attn\.proj|mlp\.fc2)\.weight$", 0.2, 0),
    (r"\.attn_(block|grid)\.attn\.qkv\.weight$", 0.3, 0),
    (r"^stages\.\d\.blocks\.\d+\.(attn_(block|grid)\.|conv\.)ls[12]?\.gamma$", 1, 0.3),
    (r"\.relative_position_bias_table$", 10, 0),
)
DAMPED = re.compile(
    r"^blocks\.[12]\.\d+\.bn2\.weight$|\.(bn3|norm3|conv3(_1x1)?\.bn|qkv|token_mixer\.(conv1?\.)?bn)\.weight$"
    r"|\.(conv_kxk|conv_1x1)\.bn\.weight$"
    r"|\.(mhca\.projection|e_mhsa\.(proj|q)|patch_embed\.norm)\.weight$"
    r"|\.(token_mixer\.q|attn\.q\.proj)\.bn\.weight$|^stages\.\d\.blocks\.\d+\.norm2\.weight$"
)


def tensor(key: str, shape: list[int], damping: float = 1) -> Array:
    """The float32 tensor of a state-dict key in PyTorch's layout: [out, in / groups, height, width].

    damping: a factor on the last norm of residual branches and on the logits of attention, for networks that
    would amplify rounding errors; above 1, for those whose signal would fade.
    """
    draws = _generator(key)
    last = key.rpartition(".")[2]
    if last == "index":
        return draws.integers(0, shape[0], shape).astype(np.float32)
    if last == "attention_bias_idxs":
        return _places_apart(shape[0])
    if last == "running_var":
        return draws.random(shape, dtype=np.float32) + np.float32(0.5)
    values = draws.standard_normal(shape, dtype=np.float32)
    if last == "gain" or (last == "weight" and len(shape) == 1):
        values = np.float32(1) + np.float32(0.1) * values
    elif last == "weight":
        gain = 1 if shape[0] == CLASSES else 2
        kernels_of_experts = len(shape) == 2 and shape[1] >= 500 * shape[0]
        values *= np.float32(
            math.sqrt(0.08 / shape[0]) if kernels_of_experts else math.sqrt(gain / math.prod(shape[1:]))
        )
    else:
        values *= np.float32(0.1)
    return _scaled(np.asarray(values, np.float32), key, damping)


def _places_apart(places: int) -> Array:
    """No weights but what the reference counts by itself: [P, P], for the places of a square how many rows,
    times its side, and columns they are apart.
    """
    rows, columns = np.divmod(np.arange(places), math.isqrt(places))
    apart = [abs(axis[:, None] - axis) for axis in (rows, columns)]
    return (apart[0] * math.isqrt(places) + apart[1]).astype(np.float32)


def _scaled(values: Array, key: str, damping: float) -> Array:
    factor, addend = next(((f, a) for pattern, f, a in SCALES if re.search(pattern, key)), (1, 0))
    if DAMPED.search(key):
        factor *= damping
    scaled = values if factor == 1 else np.asarray(values * np.float32(factor))
    # Adding 0 would turn -0 into 0, another checksum.
    return scaled + np.float32(addend) if addend else scaled


def picture(height: int, width: int) -> Array:
    """Two noise pictures, RGB in 0..255: float32 [2, height, width, 3]."""
    draws = _generator(f"input:{height}x{width}")
    return draws.random((2, height, width, 3), dtype=np.float32) * np.float32(255)


def normalise(images: Array, mean: list[float], std: list[float]) -> Array:
    """What the reference was fed: (images / 255 - mean) / std, channels last."""
    centred = images / np.float32(255) - np.asarray(mean, np.float32)
    return (centred / np.asarray(std, np.float32)).astype(np.float32)


def checksum(tensors: list[Array]) -> int:
    """CRC-32 over the little-endian bytes of all tensors, in order."""
    crc = 0
    for values in tensors:
        crc = zlib.crc32(np.ascontiguousarray(values, "<f4").tobytes(), crc)
    return crc


def _generator(key: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
