"""Every variant equals its reference on the golden rule's weights: each stage, then the logits, at every
size.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo.build import build
from zoo.registry import Weights, resolve
from zoo.weights.convert import assign, renamed

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))
import golden_rule  # noqa: E402

TOLERANCE = 1e-4
LARGE_MACS = 5e8
LARGE_PARAMS = 2e8
THOROUGH_MACS = 1e9
ONE_FILE_MACS = 5e9
WHOLE_FAMILIES = ("resnet", "efficientnet")

GOLDEN = [
    json.loads(path.read_text()) | {"id": path.stem} for path in sorted((HERE / "golden").glob("*.json"))
]


def kind(golden):
    """What shares all its code: a family's builder under one convention of padding."""
    architecture, _ = resolve(golden["name"])
    return architecture.family, architecture.builder, golden["padding"]


def smallest_of_each_kind():
    by_size = sorted(GOLDEN, key=lambda golden: -golden["macs"])
    return {golden["id"] for golden in {kind(golden): golden for golden in by_size}.values()}


def whole_families():
    """Of their largest networks, whose conventions differ in padding alone, one file each: TensorFlow's."""
    mine = [golden for golden in GOLDEN if kind(golden)[0] in WHOLE_FAMILIES]
    last = {resolve(golden["name"])[0].name: golden["id"] for golden in mine}
    return {g["id"] for g in mine if g["macs"] < ONE_FILE_MACS or g["id"] in last.values()}


def cases():
    """`make test`: the smallest of each kind, small kin, and two families whole; `make parity`: all."""
    always = smallest_of_each_kind() | whole_families()
    for golden in GOLDEN:
        large = golden["params"] > LARGE_PARAMS or (
            golden["macs"] > LARGE_MACS and golden["id"] not in always
        )
        yield pytest.param(golden, id=golden["id"], marks=[pytest.mark.large] if large else [])


@pytest.mark.parametrize("golden", cases())
def test_network_equals_its_reference(golden, request):
    """At every size for the smallest network of each kind, and for all with --every-size; else at the last
    size, an odd one.

    That the networks have so many parameters and multiply-adds is tested in test_every_architecture.
    """
    architecture, weights = conventions(golden)
    assert (golden["params"], golden["macs"]) == (architecture.params, architecture.macs)
    damping = golden.get("damping", 1)
    tensors = {key: golden_rule.tensor(key, shape, damping) for key, shape in golden["keys"]}
    thorough = golden["id"] in smallest_of_each_kind() and golden["macs"] < THOROUGH_MACS
    every_size = thorough or request.config.getoption("--every-size")
    for run in golden["runs"] if every_size else golden["runs"][-1:]:
        # The scope holds what is assigned: initial values would cost as much as all the rest.
        with keras.StatelessScope(initialize_variables=False):
            network = build_at(architecture, weights, run["size"])
            assign(network, renamed(network, tensors, weights.renames))
            compare(network, run)


def build_at(architecture, weights, size):
    """With logits, and as many classes as the reference has."""
    classes = architecture.classes
    return build(architecture, weights, classes=classes, input_size=(size, size), classifier_activation=None)


def conventions(golden):
    """Those of the tag; a name without one is of a convention that nobody published weights of."""
    architecture, weights = resolve(golden["name"])
    keys = ("padding", "epsilon", "mean", "std")
    run_with = {key: tuple(v) if isinstance(v := golden[key], list) else v for key in keys}
    if "." not in golden["name"]:
        return architecture, Weights(architecture.name, "none", **run_with)
    assert {key: getattr(weights, key) for key in keys} == run_with
    return architecture, weights


def compare(network, run):
    size = run["size"]
    taps = [output_of(network, stage["module"]) for stage in run["stages"]]
    tapped = keras.Model(network.inputs[0], [*taps, network.outputs[0]])
    # Eagerly: tracing a graph for one batch takes longer than the batch.
    outputs = tapped(golden_rule.picture(size, size), training=False)
    *stages, logits = (keras.ops.convert_to_numpy(output) for output in outputs)
    for stage, values in zip(run["stages"], stages, strict=True):
        compare_stage(stage, values, f"{network.name} at {size}, {stage['module']}")
    error = np.abs(logits[:, :16] - np.array(run["logits"])) / np.reshape(run["std"], (-1, 1))
    assert error.max() < TOLERANCE, (
        f"{network.name} at {size}: logits differ by {error.max():.1e} of their deviation"
    )
    assert list(logits.argmax(-1)) == run["argmax"]


def compare_stage(stage, values, where):
    flat = values.reshape(-1)
    places = [k * (flat.size - 1) // 7 for k in range(8)]
    assert list(values.shape) == stage["shape"], where
    error = np.abs(flat[places] - np.array(stage["values"])).max() / stage["std"]
    assert error < TOLERANCE, f"{where}: differs by {error:.1e} of its deviation"


def output_of(network, module):
    """What a module of the reference returns: the output of the last layer named by it or under it."""
    return [v for v in network.layers if v.name == module or v.name.startswith(f"{module}.")][-1].output
