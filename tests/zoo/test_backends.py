"""On Keras's jax backend the networks equal their references too, and TensorFlow is not imported."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent

# A stem that pads, squeeze-and-excitation with hard swish, layer norms, a convolution in groups.
NAMES = ("resnet18", "mobilenetv3_small_050", "convnext_atto", "regnetx_002")

PARITY = """
import json, sys
from pathlib import Path

import keras
import numpy as np

import golden_rule
import zoo
from zoo.build import build
from zoo.registry import resolve
from zoo.weights.convert import assign, renamed

assert keras.backend.backend() == "jax"
for path in sys.argv[1:]:
    golden = json.loads(Path(path).read_text())
    architecture, weights = resolve(golden["name"])
    run = min(golden["runs"], key=lambda run: run["size"])
    size = (run["size"], run["size"])
    network = build(architecture, weights, classes=1000, input_size=size, classifier_activation=None)
    damping = golden.get("damping", 1)
    tensors = {key: golden_rule.tensor(key, shape, damping) for key, shape in golden["keys"]}
    assign(network, renamed(network, tensors, weights.renames))
    logits = network.predict(golden_rule.picture(*size), verbose=0)
    error = np.abs(logits[:, :16] - np.array(run["logits"])) / np.reshape(run["std"], (-1, 1))
    assert error.max() < 1e-4, f"{network.name}: logits differ by {error.max():.1e} of their deviation"
    assert list(logits.argmax(-1)) == run["argmax"]
    print(f"{network.name} is equal, {error.max():.0e}")
assert "tensorflow" not in sys.modules
print("without TensorFlow")
"""

LOAD = """
import sys
import numpy as np
import zoo

network = zoo.load("efficientnet_lite0")
assert zoo.facts(network).labels[0] == "tench"
print(np.asarray(network(np.zeros((1, 224, 224, 3)))).shape, "tensorflow" in sys.modules)
"""


def on_jax(code, *arguments):
    """What the program prints."""
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.fspath(HERE)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_networks_on_jax_equal_their_references():
    lines = on_jax(PARITY, *(f"{HERE}/golden/{name}.json" for name in NAMES)).splitlines()
    assert [line.split()[0] for line in lines] == [*NAMES, "without"]


def test_public_weights_load_on_jax():
    assert on_jax(LOAD) == "(1, 1000) False\n"
