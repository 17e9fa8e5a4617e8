"""What helps a network learn: auxiliary heads, a teacher, half precision."""

import keras
import numpy as np
import pytest

import zoo
from zoo.training import Recipe
from zoo.training.distillation import teacher_of
from zoo.training.loop import Examples, Held, Stage, train
from zoo.training.network import precision, prepare
from zoo.training.stages import with_losses

SHORT = {
    "top": 1.0,
    "head_epochs": 0,
    "epochs": 8,
    "rate": 5e-3,
    "patience": 8,
    "batch_size": 32,
    "augment": "none",
}


@pytest.fixture(scope="module")
def single(tiny, arrays):
    """One fine-tuning in float32, shared: its Result."""
    return zoo.fine_tune(tiny(), arrays, precision="float32", **SHORT)


def learns(result):
    losses = [entry["val_loss"] for entry in result.history]
    return min(losses) < 0.5 * losses[0]


def test_auxiliary_heads_change_what_is_learnt_and_are_gone_afterwards(tiny, arrays, single):
    result = zoo.fine_tune(tiny(auxiliary=True), arrays, precision="float32", **SHORT)
    assert learns(single)
    assert learns(result)
    assert result.model.output_shape == (None, 4)
    assert not any(layer.name.startswith("aux1") for layer in result.model.layers)
    with_it, without = (one.model.get_layer("low").get_weights()[0] for one in (result, single))
    assert np.abs(with_it - without).max() > 1e-3


def test_heads_below_what_learns_are_left_out(tiny):
    assert set(prepare(tiny(auxiliary=True), 3, 1.0).top.output) == {"predictions", "aux1"}
    assert not isinstance(prepare(tiny(auxiliary=True), 3, 0.4).top.output, dict)


def test_a_network_loaded_by_name_brings_its_auxiliary_heads():
    from zoo.loading import has_auxiliary

    assert has_auxiliary("googlenet", 64)
    assert has_auxiliary("inception_v3")
    assert not has_auxiliary("inception_v3", 224)
    assert not has_auxiliary("resnet18")
    assert not has_auxiliary("hub:https://example.invalid/1")


def test_a_teacher_gives_soft_labels_in_the_order_of_the_classes(tiny):
    teacher = tiny(seed=5, labels=("7", "0", "4", "1"))
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype(np.float32)
    soft = teacher_of(teacher, ("0", "1", "4", "7"), (16, 16), 2.0).predict(pictures, verbose=0)
    known = teacher.predict(pictures, verbose=0)[:, [1, 3, 2, 0]]
    np.testing.assert_allclose(soft, np.sqrt(known) / np.sqrt(known).sum(1, keepdims=True), rtol=1e-4)
    larger = teacher_of(teacher, ("0", "1", "4", "7"), (32, 24), 1.0)
    assert larger.predict(np.zeros((1, 32, 24, 3)), verbose=0).shape == (1, 4)


@pytest.mark.parametrize("top", [0.4, 1.0], ids=["views", "fresh"])
def test_a_teacher_changes_what_a_student_learns(tiny, arrays, single, top):
    few = SHORT | {"top": top, "epochs": 3}
    result = zoo.fine_tune(
        tiny(seed=1), arrays, teacher=single.model, **few, distillation=1.0, temperature=2.0
    )
    assert result.recipe.teacher == "tiny"
    without = zoo.fine_tune(tiny(seed=1), arrays, **few)
    assert np.abs(without.model.get_weights()[-1] - result.model.get_weights()[-1]).max() > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_teachers_labels_alone_are_enough(tmp_path, temperature):
    """All labels to learn from say the first class, the teacher says the second with 0.8."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 200, 4)).astype(np.float32)
    logits = np.log([0.2, 0.8]) / temperature
    soft = np.broadcast_to(np.exp(logits) / np.exp(logits).sum(), (1, 200, 2))
    seen = Examples(x, np.eye(2, dtype=np.float32)[np.zeros(200, int)], soft=soft)
    held = Held(x[0], (random.uniform(size=200) < 0.8).astype(int))
    images = keras.Input((4,))
    model = keras.Model(images, keras.layers.Dense(2, kernel_initializer="zeros")(images))
    recipe = Recipe(distillation=1.0, temperature=temperature, patience=30)
    stage = with_losses(Stage("head", model, seen, held, 30, 0.05), {}, recipe)
    train(stage, recipe, tmp_path)
    probabilities = np.asarray(keras.ops.softmax(model.predict(x[0], verbose=0)))
    assert probabilities[:, 1].mean() == pytest.approx(0.8, abs=0.1)


def test_a_teacher_of_other_classes_is_refused(tiny, arrays):
    with pytest.raises(zoo.ZooError, match="the teacher tiny knows other classes than the pictures have"):
        zoo.fine_tune(tiny(), arrays, teacher=tiny(labels=("cat", "dog")), **SHORT)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_learns_and_leaves_a_model_in_float32(tiny, arrays, single, tmp_path, policy):
    result = zoo.fine_tune(tiny(), arrays, tmp_path / "out", precision=policy, **SHORT)
    assert learns(result)
    saved = keras.saving.load_model(tmp_path / "out" / "model.keras")
    for model in (result.model, saved):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert np.abs(single.model.get_weights()[0] - result.model.get_weights()[0]).max() > 1e-6


def test_a_network_of_layers_of_its_own_learns_in_half_precision(arrays):
    network = zoo.load("convnext_zepto_rms", weights=None, classes=2, input_size=32)
    options = SHORT | {"top": 0.3, "head_epochs": 1, "epochs": 1, "views": 2}
    result = zoo.fine_tune(network, arrays, precision="mixed_bfloat16", **options)
    assert [entry["stage"] for entry in result.history if entry["epoch"]] == ["head", "top"]
    assert np.isfinite([entry["loss"] for entry in result.history if entry["epoch"]]).all()


def test_layers_compute_in_half_precision_only_inside(tiny):
    network = prepare(tiny(), 3, 1.0)
    pictures = np.zeros((1, 16, 16, 3), np.float32)
    with precision(network, "mixed_bfloat16"):
        assert network.top(pictures).dtype.name == "bfloat16"
        assert network.whole(pictures).dtype.name == "float32"
        assert network.whole.get_layer("low").kernel.dtype == "float32"
    assert network.top(pictures).dtype.name == "float32"


def test_without_a_gpu_auto_is_float32(tiny, arrays):
    assert zoo.fine_tune(tiny(), arrays, **SHORT | {"epochs": 1}).recipe.precision == "float32"
