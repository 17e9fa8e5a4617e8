"""Pictures with any number of labels: from a table to a judged network with a probability for each label."""

import csv
import json
import re
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image
from sklearn import metrics as sklearn_metrics

import zoo
from zoo.data import images, open_data, split
from zoo.training import multi_label
from zoo.training.calibration import fit_temperature
from zoo.training.distillation import teacher_of
from zoo.training.loop import Batches, Examples, Held, Stage, compile_for
from zoo.training.recipe import Recipe
from zoo.training.tasks import SEVERAL_LABELS
from zoo_cli.main import main

LABELS = ("disc", "red", "stripes")
NOTHING = Held(np.zeros((0, 16, 16, 3)), np.zeros((0, 3), bool))
CHANGES = {
    "top": 1.0,
    "head_epochs": 0,
    "epochs": 25,
    "rate": 1e-2,
    "patience": 8,
    "batch_size": 32,
    "augment": "none",
}


@pytest.fixture(scope="module")
def drawn():
    """images uint8 [300, 16, 16, 3] and targets bool [300, 3]: each of LABELS is there or not, by itself."""
    random = np.random.default_rng(0)
    targets = random.uniform(size=(300, 3)) < 0.4
    pictures = random.uniform(60, 110, (300, 16, 16, 3))
    y, x = np.mgrid[:16, :16]
    for picture, (disc, red, stripes) in zip(pictures, targets, strict=True):
        if disc:
            top, left = random.uniform(4, 12, 2)
            picture[np.hypot(y - top, x - left) < 4] += 110
        if red:
            picture[..., 0] += 30
        if stripes:
            picture[::4] -= 50
    return pictures.clip(0, 255).astype(np.uint8), targets


@pytest.fixture(scope="module")
def table(drawn, tmp_path_factory):
    home = tmp_path_factory.mktemp("things")
    with (home / "things.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels"])
        for i, (image, own) in enumerate(zip(*drawn, strict=True)):
            Image.fromarray(image).save(home / f"{i:03}.png")
            writer.writerow([f"{i:03}.png", "|".join(np.asarray(LABELS)[own])])
    return home / "things.csv"


@pytest.fixture(scope="module")
def things(tiny, table, tmp_path_factory):
    """One fine-tuning, shared: its Result."""
    return zoo.fine_tune(tiny(), table, tmp_path_factory.mktemp("out") / "things", **CHANGES)


def test_it_learns_and_says_how_well(things):
    assert things.metrics["average_precision"] > 0.95
    for name in ("average_precision", "micro_f1", "macro_f1"):
        low, high = things.metrics[f"{name}_interval"]
        assert low <= things.metrics[name] <= high
        assert low > 0.7
    assert list(things.metrics["classes"]) == list(LABELS)
    assert "confusion" not in things.metrics
    assert things.metrics["calibration"]["after"]["loss"] < things.metrics["calibration"]["loss"]
    tested = things.metrics["pictures"]["test"]
    assert len({one["index"] for one in things.mistakes}) == round((1 - things.metrics["accuracy"]) * tested)


def test_the_metrics_are_the_models_own_on_the_test_pictures(things, table):
    pictures = open_data(table)
    chosen = split(pictures, 0.15, 0.15).test
    answers = things.model.predict(images(pictures, zoo.facts(things.model).preprocessing, chosen), verbose=0)
    expected = sklearn_metrics.average_precision_score(pictures.labels[chosen], answers, average="macro")
    assert things.metrics["average_precision"] == pytest.approx(expected)
    assert things.metrics["accuracy"] == np.mean(((answers > 0.5) == pictures.labels[chosen]).all(axis=1))


def test_every_label_has_a_probability_of_its_own(things, drawn):
    told = zoo.heads(things.model).predict(drawn[0].astype(np.float32), verbose=0)
    np.testing.assert_allclose(told["probabilities"], 1 / (1 + np.exp(-told["logits"])), atol=1e-5)
    assert told["probabilities"].sum(axis=1).max() > 1.5
    assert told["probabilities"].sum(axis=1).min() < 0.5


def test_the_kind_of_task_travels_with_the_model(things, drawn, tmp_path):
    again = zoo.load(zoo.save(things.model, tmp_path / "things.keras"))
    assert zoo.facts(again).task == "multi-label"
    assert zoo.facts(again).labels == LABELS
    np.testing.assert_array_equal(
        again.predict(drawn[0][:8], verbose=0), things.model.predict(drawn[0][:8], verbose=0)
    )
    calibrated = zoo.calibrate(again)
    temperature = zoo.facts(calibrated).card["temperature"]
    before, after = (zoo.heads(one).predict(drawn[0][:8], verbose=0)["logits"] for one in (again, calibrated))
    np.testing.assert_allclose(after, before / temperature, atol=1e-3)
    assert zoo.facts(calibrated).task == "multi-label"


def test_a_finished_folder_gives_its_result_and_one_label_another_job(things, tiny, table, arrays):
    again = zoo.fine_tune(tiny(), table, things.out, **CHANGES)
    assert again.metrics == things.metrics
    assert again.mistakes == things.mistakes
    with pytest.raises(zoo.ZooError, match="other data"):
        zoo.fine_tune(tiny(), arrays, things.out, **CHANGES)


def test_a_network_of_several_labels_can_learn_to_give_one(things, arrays):
    result = zoo.fine_tune(things.model, arrays, **CHANGES | {"epochs": 1})
    assert zoo.facts(result.model).task == "single-label"
    np.testing.assert_allclose(result.model.predict(np.zeros((1, 16, 16, 3)), verbose=0).sum(), 1, rtol=1e-5)


def test_the_report_has_the_labels_and_no_confusion_matrix(things, tmp_path):
    html = things.report(tmp_path).read_text("utf-8")
    assert f"<title>tiny: mean average precision {100 * things.metrics['average_precision']:.1f} %" in html
    assert ">Labels</h2>" in html
    assert "Confusion matrix" not in html
    rows = re.findall(r"<tr><td>(disc|red|stripes)</td>", html)
    assert rows == list(LABELS)
    assert html.count("<svg") == 2
    assert "mean average precision, 95 % interval" in html
    assert "micro F1, 95 % interval" in html


def test_mistakes_name_the_label_that_is_there_or_is_not():
    probabilities = np.asarray([[0.9, 0.2, 0.1], [0.4, 0.9, 0.7]])
    wrong = multi_label.wrong_answers(
        probabilities, np.asarray([[True, False, False], [True, True, False]]), LABELS
    )
    assert [(one.picture, one.place, one.label, one.predicted) for one in wrong] == [
        (1, 2, "no stripes", "stripes"),
        (1, 0, "disc", "no disc"),
    ]
    assert [(one.probability, one.of_label) for one in wrong] == [
        (pytest.approx(0.7), pytest.approx(0.3)),
        (pytest.approx(0.6), pytest.approx(0.4)),
    ]


def test_metrics_agree_with_scikit_learn():
    random = np.random.default_rng(1)
    labels = random.uniform(size=(200, 4)) < (0.05, 0.3, 0.5, 0.9)
    probabilities = (random.uniform(size=(200, 4)) + labels).round(1) / 2.1  # many are equal
    judged = multi_label.evaluate(probabilities, labels, tuple("abcd"))
    yes = probabilities > 0.5
    average = sklearn_metrics.average_precision_score
    assert judged["average_precision"] == pytest.approx(average(labels, probabilities, average="macro"))
    for kind in ("micro", "macro"):
        expected = sklearn_metrics.f1_score(labels, yes, average=kind)
        assert judged[f"{kind}_f1"] == pytest.approx(expected)
    assert judged["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, yes))
    losses = [sklearn_metrics.log_loss(labels[:, i], probabilities[:, i], labels=[0, 1]) for i in range(4)]
    assert judged["loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    each = sklearn_metrics.precision_recall_fscore_support(labels, yes)
    aps = average(labels, probabilities, average=None)
    for i, row in enumerate(judged["classes"].values()):
        precision, recall, f1, pictures = (part[i] for part in each)
        assert list(row.values()) == pytest.approx([precision, recall, f1, aps[i], pictures])


def test_a_label_that_no_picture_has_is_left_out_of_the_means():
    labels = np.asarray([[True, False], [False, False]])
    judged = multi_label.evaluate(np.asarray([[0.9, 0.8], [0.1, 0.2]]), labels, ("a", "b"))
    assert (judged["average_precision"], judged["micro_f1"], judged["macro_f1"]) == (1, 1, 1)
    assert judged["classes"]["b"] == {
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "average_precision": 0,
        "pictures": 0,
    }
    assert judged["accuracy"] == 0.5
    json.dumps(multi_label.evaluate(np.asarray([[0.4, 0.4]]), np.zeros((1, 2), bool), ("a", "b")))


def test_the_interval_holds_what_other_pictures_say():
    """Of forty sets drawn alike, about 38 intervals hold the figure of very many pictures."""

    def one(seed, pictures):
        random = np.random.default_rng(seed)
        labels = random.uniform(size=(pictures, 3)) < 0.4
        return multi_label.evaluate(0.6 * random.uniform(size=labels.shape) + 0.4 * labels, labels, LABELS)

    truth = one(0, 20_000)
    found = [one(seed, 150) for seed in range(1, 41)]
    for name in ("average_precision", "micro_f1", "macro_f1"):
        intervals = [judged[f"{name}_interval"] for judged in found]
        assert 34 <= sum(low < truth[name] < high for low, high in intervals) <= 40


def test_pictures_that_count_several_times_are_as_many_pictures():
    random = np.random.default_rng(2)
    labels = random.uniform(size=60) < 0.3
    probabilities = random.uniform(size=60).round(1)
    times = random.integers(0, 4, (5, 60))
    expected = [
        sklearn_metrics.average_precision_score(labels, probabilities, sample_weight=t) for t in times
    ]
    assert multi_label.average_precisions(probabilities, labels, times) == pytest.approx(expected)


def test_calibration_is_of_all_decisions():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (4000, 3))
    labels = random.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits / 2))
    probabilities, choices = multi_label.decisions(1 / (1 + np.exp(-logits)), labels)
    assert fit_temperature(np.log(probabilities), choices) == pytest.approx(2, rel=0.05)


@pytest.fixture
def examples(drawn):
    pictures, targets = drawn
    return Examples(pictures[None], targets.astype(np.float32), fresh=True)


def test_mixed_pictures_have_the_labels_of_both(tiny, examples):
    recipe = Recipe(mixup=0.5, batch_size=32, augment="none")
    stage = Stage("top", tiny(labels=LABELS), examples, NOTHING, 1, 0.1, task=SEVERAL_LABELS)
    _, labels = Batches(stage, recipe, 1)[0]
    assert labels.shape == (32, 3)
    assert np.any((labels > 0.01) & (labels < 0.99))


@pytest.mark.parametrize("smoothing", [0.0, 0.2], ids=["plain", "smoothed"])
def test_class_weights_weigh_the_yes_of_rare_labels(tiny, examples, smoothing):
    recipe = Recipe(class_weights=True, label_smoothing=smoothing, batch_size=32, augment="none")
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))
    stage = Stage("top", model, examples, NOTHING, 1, 0.1, task=SEVERAL_LABELS)
    compile_for(stage, recipe, 0.1)
    x, y = Batches(stage, recipe, 1)[0]
    counts = examples.targets.sum(axis=0)
    smoothed = y * (1 - smoothing) + smoothing / 2
    expected = tf.nn.weighted_cross_entropy_with_logits(
        smoothed, model(x / 1000), ((300 - counts) / counts).astype(np.float32)
    )
    assert float(model.compute_loss(x, y, model(x / 1000))) == pytest.approx(
        float(np.mean(expected)), rel=1e-5
    )


def test_all_that_helps_learning_works_together(tiny, drawn):
    teacher = zoo.fine_tune(tiny(), (*drawn, LABELS), **CHANGES | {"epochs": 3})
    result = zoo.fine_tune(
        tiny(seed=1, auxiliary=True),
        (*drawn, LABELS),
        teacher=teacher.model,
        **CHANGES | {"epochs": 12, "mixup": 0.2, "cutmix": 0.5, "class_weights": True, "distillation": 0.3},
    )
    losses = [entry["val_loss"] for entry in result.history]
    assert min(losses) < 0.8 * losses[0]
    assert result.metrics["average_precision"] > 0.9


def test_a_teacher_of_several_labels_doubts_each(things, tiny, drawn):
    pictures = drawn[0][:4].astype(np.float32)
    soft = teacher_of(things.model, ("red", "disc", "stripes"), (16, 16), 2.0, SEVERAL_LABELS)
    known = things.model.predict(pictures, verbose=0)[:, [1, 0, 2]]
    odds = np.sqrt(known / (1 - known))
    np.testing.assert_allclose(soft.predict(pictures, verbose=0), odds / (1 + odds), rtol=1e-3)
    with pytest.raises(zoo.ZooError, match="tiny is a single-label network, the pictures are multi-label"):
        zoo.fine_tune(tiny(), (*drawn, LABELS), teacher=tiny(labels=LABELS), **CHANGES)


def test_it_is_evaluated_and_compared_by_all_its_labels(things, table, tiny, arrays, tmp_path):
    judged = zoo.evaluate(things.model, table)
    assert judged.task == "multi-label"
    assert judged.metrics["average_precision"] > 0.9
    assert np.mean(judged.right) == judged.metrics["accuracy"]
    same = zoo.compare(judged, judged)
    assert (same.difference, same.p) == (0, 1)
    one = zoo.evaluate(tiny(), arrays)
    with pytest.raises(
        zoo.ZooError, match="tiny is a multi-label network, tiny is single-label: compare two"
    ):
        zoo.compare(judged, one)
    with pytest.raises(zoo.DataError, match="the pictures have several labels and the model gives one"):
        zoo.evaluate(tiny(labels=LABELS), table)
    model = zoo.save(things.model, tmp_path / "things.keras")
    ran = CliRunner().invoke(main, ["evaluate", str(model), str(table)])
    assert ran.exit_code == 0, ran.output
    average = judged.metrics["average_precision"]
    assert f"mean average precision {average:.3f} (95 % interval " in ran.stdout
    assert ", micro F1 " in ran.stdout
    assert " % of 300 pictures right in all labels (95 % interval " in ran.stdout
    assert re.search(r"^class +pictures +precision +recall +f1 +average precision$", ran.stdout, re.MULTILINE)


def test_pictures_of_one_label_judge_it_too(things, drawn, tmp_path):
    """A folder for each label says that its pictures have no other."""
    pictures, targets = drawn
    for i in np.flatnonzero(targets.sum(axis=1) == 1):
        home = tmp_path / np.asarray(LABELS)[targets[i]][0]
        home.mkdir(exist_ok=True)
        Image.fromarray(pictures[i]).save(home / f"{i:03}.png")
    judged = zoo.evaluate(things.model, tmp_path)
    assert judged.metrics["average_precision"] > 0.9
    assert judged.metrics["accuracy"] > 0.7


def test_an_unknown_task_is_refused(tiny, arrays):
    model = tiny()
    zoo.attach(model, replace(model.zoo, card={"task": "multilabel"}))
    with pytest.raises(
        zoo.ZooError, match='tiny has the task "multilabel": there are single-label and multi-'
    ):
        zoo.evaluate(model, arrays)


def test_on_the_command_line(tiny, table, tmp_path):
    model = zoo.save(tiny(), tmp_path / "tiny.keras")
    settings = [f"--set={name}={value}" for name, value in (CHANGES | {"epochs": 2}).items()]
    ran = CliRunner().invoke(
        main, ["fine-tune", str(model), str(table), f"--out={tmp_path / 'out'}", *settings]
    )
    assert ran.exit_code == 0, ran.output
    metrics = json.loads((tmp_path / "out" / "result.json").read_text())["metrics"]
    assert f"held-out mean average precision {metrics['average_precision']:.4f}" in ran.stdout
