"""On Keras's jax and torch backends the networks equal their references without TensorFlow, and learn."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent.parent
WITHOUT_TORCH = importlib.util.find_spec("torch") is None
BACKENDS = ("jax", pytest.param("torch", marks=pytest.mark.skipif(WITHOUT_TORCH, reason="not installed")))

# A stem that pads, squeeze-and-excitation with hard swish, layer norms, a convolution in groups; attention of
# places without a softmax, of places apart on a stretched map, and of channels.
NAMES = (
    *("resnet18", "mobilenetv3_small_050", "convnext_atto", "regnetx_002"),
    *("efficientvit_b0", "mobilevit_xxs", "edgenext_xx_small"),
)

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
print("by", keras.backend.backend())
"""

LOAD = """
import sys
import numpy as np
import zoo

network = zoo.load("efficientnet_lite0")
assert zoo.facts(network).labels[0] == "tench"
print(tuple(network(np.zeros((1, 224, 224, 3))).shape), "tensorflow" in sys.modules)
"""

# A channel shuffle, and places that look at their neighbours.
SHAPED = ("shufflenet_v2_x0_5", "san10_patchwise")

ANY_SIZE = """
import sys

import keras
import numpy as np

import zoo

for name in sys.argv[1:]:
    free = zoo.load(name, weights=None, classes=3, input_size=(None, None))
    of_one_size = zoo.load(name, weights=None, classes=3, input_size=(161, 178))
    of_one_size.set_weights(free.get_weights())
    picture = np.random.default_rng(0).uniform(0, 255, (1, 161, 178, 3)).astype(np.float32)
    found, expected = (keras.ops.convert_to_numpy(one(picture)) for one in (free, of_one_size))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    print(free.name, free.input_shape)
"""

# TensorFlow may be imported here: Keras itself does so to copy a layer and to change pictures.
FINE_TUNE = """
import sys

import keras
import numpy as np
from keras import layers

import zoo

labels = np.arange(80) % 2
random = np.random.default_rng(0)
pictures = random.integers(0, 100, (80, 16, 16, 3), dtype=np.uint8)
pictures[labels == 1] += 100


def network(dropout):
    images = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(8, 3, 2, activation="relu", name="low")(x)
    x = layers.Dropout(dropout, name="drop")(layers.Flatten()(x))
    y = layers.Activation("softmax", name="predictions")(layers.Dense(2, name="fc")(x))
    facts = zoo.Facts("tiny", ("a", "b"), zoo.Preprocessing(input_size=(16, 16)))
    model = zoo.attach(keras.Model(images, y, name="tiny"), facts)
    model.set_weights([random.normal(0, 0.1, weight.shape) for weight in model.get_weights()])
    return model


def losses(name, dropout, **changes):
    out = f"{sys.argv[1]}/{name}"
    changes |= {"top": 1.0, "head_epochs": 2, "epochs": 3, "batch_size": 16}
    result = zoo.fine_tune(network(dropout), (pictures, labels), out, **changes)
    assert np.array_equal(zoo.load(out).get_weights()[0], result.model.get_weights()[0])
    return [entry["val_loss"] for entry in result.history]


print(*losses("plain", 0.0, augment="none"))
print(*losses("changed", 0.2, views=2, mixup=0.2, checkpoint_minutes=0, callbacks="csv"))
"""


EXPLAIN = """
import numpy as np
import zoo

network = zoo.load("mobilenetv3_small_050", weights=None, classes=2, input_size=32)
picture = np.zeros((32, 32, 3), np.uint8)
print(*zoo.explain(network, picture, ("occlusion",)).maps)
for method in ("gradcam", "integrated_gradients"):
    try:
        zoo.explain(network, picture, (method,))
    except zoo.ZooError as error:
        print(error)
"""


REFUSED = """
import numpy as np
import zoo

network = zoo.load("resnet20_cifar", weights=None, classes=2)
pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
print(network(pictures[:1]).shape)
try:
    zoo.fine_tune(network, (pictures, np.arange(12) % 2))
except zoo.ZooError as error:
    print(error)
"""


def run(code, *arguments, backend):
    """What the program prints."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.fspath(HERE),
    }
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_equal_their_references(backend):
    lines = run(PARITY, *(f"{HERE}/golden/{name}.json" for name in NAMES), backend=backend).splitlines()
    assert [line.split()[0] for line in lines] == [*NAMES, "by"]
    assert lines[-1] == f"by {backend}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_public_weights_load(backend):
    assert run(LOAD, backend=backend) == "(1, 1000) False\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_take_pictures_of_any_size(backend):
    lines = run(ANY_SIZE, *SHAPED, backend=backend).splitlines()
    assert lines == [f"{name} (None, None, None, 3)" for name in SHAPED]


@pytest.mark.parametrize("backend", BACKENDS)
def test_explanations_by_gradients_say_that_they_need_tensorflow(backend):
    occlusion, *refusals = run(EXPLAIN, backend=backend).splitlines()
    assert occlusion == "occlusion"
    assert len(refusals) == 2
    assert all("set KERAS_BACKEND=tensorflow" in refusal for refusal in refusals)


def test_a_backend_that_cannot_train_is_refused():
    answered, refusal = run(REFUSED, backend="numpy").splitlines()
    assert answered == "(1, 2)"
    assert refusal.endswith("on tensorflow, jax or torch, not on numpy: set KERAS_BACKEND=tensorflow")


@pytest.mark.parametrize("backend", BACKENDS)
def test_fine_tuning_equals_that_on_tensorflow(backend, tmp_path):
    (plain, changed), (expected, _) = (
        [np.array(line.split(), float) for line in run(FINE_TUNE, str(tmp_path / b), backend=b).splitlines()]
        for b in (backend, "tensorflow")
    )
    assert plain.shape == changed.shape == (7,)
    assert plain.min() < 0.95 * plain[0]
    np.testing.assert_allclose(plain, expected, rtol=1e-5)
    assert changed.min() < changed[0]
