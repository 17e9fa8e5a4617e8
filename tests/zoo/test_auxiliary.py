"""Auxiliary heads: the reference's numbers, training with them, and doing without them."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo.build import build
from zoo.errors import ZooError
from zoo.registry import resolve
from zoo.weights.convert import assign, slots, state_dict

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))
import golden_rule  # noqa: E402

TOLERANCE = 1e-4
FILES = sorted((HERE / "golden" / "auxiliary").glob("*.json"))


def read(path):
    golden = json.loads(path.read_text())
    architecture, weights = resolve(golden["name"])
    conventions = replace(weights, mean=tuple(golden["mean"]), std=tuple(golden["std"]))
    tensors = {key: golden_rule.tensor(key, shape) for key, shape in golden["keys"]}
    return golden, architecture, conventions, tensors


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_heads_equal_the_reference(path):
    golden, architecture, weights, tensors = read(path)
    for run in golden["runs"]:
        size = (run["size"], run["size"])
        options = {"classes": 1000, "input_size": size, "classifier_activation": None}
        with keras.StatelessScope(initialize_variables=False):
            network = build(architecture, weights, auxiliary=True, **options)
            assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == golden["params"]
            shapes = {slot.key: list(slot.reference_shape) for slot in slots(network)}
            assert shapes == dict(golden["keys"])
            assign(network, tensors)
            outputs = network(golden_rule.picture(*size), training=False)
        outputs = {name: np.asarray(values) for name, values in outputs.items()}
        assert set(outputs) == {"predictions", *architecture.auxiliary}
        compare(outputs["predictions"], run["logits"], f"{network.name} at {size}")
        sides = run["aux_logits"]
        sides = sides if isinstance(sides, dict) else dict.fromkeys(architecture.auxiliary, sides)
        for name, expected in sides.items():
            compare(outputs[name], expected, f"{network.name} at {size}, {name}")


def compare(logits, expected, where):
    error = np.abs(logits[:, :16] - np.array(expected)).max() / logits.std()
    assert error < TOLERANCE, f"{where}: logits differ by {error:.1e} of their deviation"


def test_googlenet_stages_equal_the_reference():
    golden, architecture, weights, tensors = read(HERE / "golden" / "auxiliary" / "inception_v1.json")
    own = {key: tensor for key, tensor in tensors.items() if not key.startswith("aux")}
    assert sum(t.size for key, t in own.items() if "running" not in key) == architecture.params
    for run in golden["runs"]:
        size = (run["size"], run["size"])
        options = {"classes": 1000, "input_size": size, "classifier_activation": None}
        with keras.StatelessScope(initialize_variables=False):
            network = build(architecture, weights, **options)
            assign(network, own)
            taps = [output_of(network, stage["module"]) for stage in run["stages"]]
            tapped = keras.Model(network.inputs[0], taps)(golden_rule.picture(*size), training=False)
        for stage, values in zip(run["stages"], map(np.asarray, tapped), strict=True):
            flat = values.reshape(-1)
            places = [k * (flat.size - 1) // 7 for k in range(8)]
            assert list(values.shape) == stage["shape"]
            error = np.abs(flat[places] - np.array(stage["values"])).max() / stage["std"]
            assert error < TOLERANCE, f"{stage['module']} at {size}: {error:.1e}"


def output_of(network, module):
    return [v for v in network.layers if v.name == module or v.name.startswith(f"{module}.")][-1].output


def test_a_step_with_the_card_s_loss_weights_lowers_every_loss():
    model = zoo.load("googlenet", weights=None, classes=2, input_size=64, drop_rate=0.0, auxiliary=True)
    weights = {"predictions": 1.0} | {
        name: side.loss_weight for name, side in zoo.describe("googlenet").auxiliary.items()
    }
    assert weights == {"predictions": 1.0, "aux1": 0.3, "aux2": 0.3}
    model.compile(
        optimizer=keras.optimizers.SGD(1e-3),
        loss=dict.fromkeys(weights, "sparse_categorical_crossentropy"),
        loss_weights=weights,
        run_eagerly=True,
    )
    pictures = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype("float32")
    labels = dict.fromkeys(weights, np.arange(8) % 2)
    first, *_, last = (model.train_on_batch(pictures, labels)[0] for _ in range(6))
    assert last < first


def test_weights_with_and_without_auxiliary_heads_fit(tmp_path, caplog):
    whole = zoo.load("googlenet", weights=None, input_size=64, auxiliary=True)
    path = tmp_path / "whole.npz"
    np.savez(path, **state_dict(whole))
    plain = zoo.load("googlenet", weights=path, input_size=64)
    assert not any(name.startswith("aux") for name in state_dict(plain))
    picture = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected = whole(picture, training=False)["predictions"]
    np.testing.assert_allclose(plain(picture, training=False), expected, atol=1e-6)
    probabilities = zoo.heads(whole)(picture, training=False)["probabilities"]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    with caplog.at_level(logging.WARNING, "zoo"):
        fewer = zoo.load("googlenet", weights=path, classes=3, input_size=64, auxiliary=True)
    assert [record.args[0] for record in caplog.records] == ["fc", "aux1.fc2", "aux2.fc2"]
    assert fewer.output["aux1"].shape == (None, 3)


def test_refusals():
    with pytest.raises(ZooError, match="resnet18 has no auxiliary heads"):
        zoo.load("resnet18", weights=None, auxiliary=True)
    with pytest.raises(ZooError, match=r"inception_v3 needs pictures of at least 299 x 299 pixels"):
        zoo.load("inception_v3", weights=None, input_size=224, auxiliary=True)
