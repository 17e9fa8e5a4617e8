"""Every variant equals its reference on the golden rule's weights: each stage, then the logits, at every
size.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo.build import build, count_macs
from zoo.registry import Weights, resolve
from zoo.weights.convert import assign, renamed, state_dict

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))
import golden_rule  # noqa: E402

TOLERANCE = 1e-4
LARGE_PARAMS = 35_000_000

FILES = sorted((HERE / "golden").glob("*.json"))


def cases():
    for path in FILES:
        golden = json.loads(path.read_text())
        marks = [pytest.mark.large] if golden["params"] > LARGE_PARAMS else []
        yield pytest.param(golden, id=path.stem, marks=marks)


@pytest.mark.parametrize("golden", cases())
def test_network_equals_its_reference(golden):
    architecture, weights = conventions(golden)
    damping = golden.get("damping", 1)
    tensors = {key: golden_rule.tensor(key, shape, damping) for key, shape in golden["keys"]}
    size = (golden["macs_size"],) * 2
    classes = architecture.classes
    network = build(architecture, weights, classes=classes, input_size=size, classifier_activation=None)
    assert count_macs(network) == golden["macs"] == architecture.macs
    assert (
        sum(int(np.prod(v.shape)) for v in network.trainable_variables)
        == golden["params"]
        == architecture.params
    )
    tensors = renamed(network, tensors, weights.renames)
    assert shapes(state_dict(network)) == shapes(tensors)
    for run in golden["runs"]:
        compare(architecture, weights, tensors, run)


def shapes(tensors):
    """Some references keep their classifier as a 1x1 convolution; here it is a matrix."""
    return {k: v.shape[:2] if v.shape[0] == 1000 else v.shape for k, v in tensors.items()}


def conventions(golden):
    """Those of the tag; a name without one is of a convention that nobody published weights of."""
    architecture, weights = resolve(golden["name"])
    keys = ("padding", "epsilon", "mean", "std")
    run_with = {key: tuple(v) if isinstance(v := golden[key], list) else v for key in keys}
    if "." not in golden["name"]:
        return architecture, Weights(architecture.name, "none", **run_with)
    assert {key: getattr(weights, key) for key in keys} == run_with
    return architecture, weights


def compare(architecture, weights, tensors, run):
    size = (run["size"], run["size"])
    classes = architecture.classes
    network = build(architecture, weights, classes=classes, input_size=size, classifier_activation=None)
    assign(network, tensors)
    taps = [output_of(network, stage["module"]) for stage in run["stages"]]
    tapped = keras.Model(network.inputs[0], [*taps, network.outputs[0]])
    *stages, logits = tapped.predict_on_batch(golden_rule.picture(*size))
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
