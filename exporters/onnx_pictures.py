"""model_pictures.onnx: pictures uint8 [batch, height, width, 3] of any height and width, as they were decoded
-> features, logits, probabilities. The resizing and the crop of zoo.preprocessing.evaluate are inside.

As Pillow does it: along the width, then along the height, antialiased and rounded each time. The Resize of
opset 18 can; the graph is written in ONNX's text syntax (https://onnx.ai/onnx/repo-docs/Syntax.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnx.parser
import onnx.utils
import onnx.version_converter

from exporters import onnx as network
from exporters.onnx_order import canonical
from exporters.parity import Parity, Reference, batched, compare_as, require_pixels
from exporters.subject import OUTPUTS, Run, Subject
from exporters.tracing import check_size
from zoo.preprocessing import Preprocessing

OPSET = 18
MODES = {"bilinear": 'mode = "linear"', "bicubic": 'mode = "cubic", cubic_coeff_a = -0.5'}

RESIZING = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
resizing (uint8[{batch}, height, width, 3] images) => (float[{batch}, {rows}, {columns}, 3] pixels)
<int64[1] cover_rows = {{{cover_rows}}}, int64[1] cover_columns = {{{cover_columns}}},
 int64[2] size = {{{rows}, {columns}}}, int64[2] axes = {{1, 2}}, int64[1] channels = {{3}},
 float zero = {{0.0}}, float half = {{0.5}}, float most = {{255.0}}>
{{
  n = Shape <start = 0, end = 1> (images)
  rows = Shape <start = 1, end = 2> (images)
  columns = Shape <start = 2, end = 3> (images)
  rows_scaled = Mul (rows, cover_columns)
  columns_scaled = Mul (columns, cover_rows)
  is_flat = LessOrEqual (rows_scaled, columns_scaled)
  tall_rows = Div (rows_scaled, columns)
  flat_columns = Div (columns_scaled, rows)
  new_rows = Where (is_flat, cover_rows, tall_rows)
  new_columns = Where (is_flat, flat_columns, cover_columns)
  new = Concat <axis = 0> (new_rows, new_columns)
  wide_size = Concat <axis = 0> (n, channels, rows, new_columns)
  new_size = Concat <axis = 0> (n, channels, new)
  real = Cast <to = 1> (images)
  maps = Transpose <perm = [0, 3, 1, 2]> (real)
  wide_exact = Resize <{mode}, antialias = 1, exclude_outside = 1> (maps, , , wide_size)
  wide_up = Add (wide_exact, half)
  wide_floor = Floor (wide_up)
  wide = Clip (wide_floor, zero, most)
  exact = Resize <{mode}, antialias = 1, exclude_outside = 1> (wide, , , new_size)
  up = Add (exact, half)
  floor = Floor (up)
  resized = Clip (floor, zero, most)
  back = Transpose <perm = [0, 2, 3, 1]> (resized)
  spare = Sub (new, size)
  real_spare = Cast <to = 1> (spare)
  half_spare = Mul (real_spare, half)
  real_start = Round (half_spare)
  start = Cast <to = 7> (real_start)
  stop = Add (start, size)
  pixels = Slice (back, start, stop, axes)
}}
"""


def write(model: Subject, file: Path) -> None:
    check_size(model, "ONNX with the resizing inside")
    inner = onnx.version_converter.convert_version(network.finished(model.deployed), OPSET)
    outer = resizing(model.facts.preprocessing, inner.ir_version, model.batch or "batch")
    whole = onnx.compose.merge_models(
        outer,
        onnx.compose.add_prefix(inner, "network/"),
        [("pixels", "network/images")],
        name=inner.graph.name,
    )
    _rename(whole, {f"network/{name}": name for name in OUTPUTS})
    canonical(whole, "pixels")
    network.save(model, whole, file)


def resizing(preprocessing: Preprocessing, ir_version: int, batch: int | str) -> onnx.ModelProto:
    """images -> pixels: float32 [batch, *input_size, 3], whole numbers 0..255."""
    (rows, columns), (cover_rows, cover_columns) = preprocessing.input_size, preprocessing.scale_size
    text = RESIZING.format(
        ir=ir_version,
        opset=OPSET,
        batch=batch,
        rows=rows,
        columns=columns,
        cover_rows=cover_rows,
        cover_columns=cover_columns,
        mode=MODES[preprocessing.interpolation],
    )
    return onnx.parser.parse_model(text)


def _rename(proto: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Of tensors that are outputs."""
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in proto.graph.output:
        value.name = names.get(value.name, value.name)


@dataclass(frozen=True)
class Reopened:
    """whole: the file; start: its first part, from pictures to pixels."""

    whole: Run
    start: Run

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """[N, H, W, 3], 0..255 -> features, logits, probabilities."""
        return self.whole(images.astype(np.uint8))

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [h, w, 3]."""
        return self.start(picture[None])["pixels"][0]


def reopen(model: Subject, file: Path) -> Reopened:
    start = onnx.utils.Extractor(onnx.load(file)).extract_model(["images"], ["pixels"])
    return Reopened(
        network.reopen(model, file), network.runner(network.session(start.SerializeToString()), ["pixels"])
    )


def measure(run: Reopened, known: Reference) -> Parity:
    """From pictures of their own sizes on. Raises ExportError where their pixels are not Pillow's."""
    images = np.stack([run.pixels(picture) for picture in known.given.pictures])
    require_pixels(images, known)
    outputs = [run(picture[None]) for picture in known.given.pictures]
    found = {name: np.concatenate([output[name] for output in outputs]) for name in OUTPUTS}
    return compare_as(known, found, batched(known.model.run, images))
