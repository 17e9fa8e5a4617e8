"""Noisy Student: pictures that nobody has labelled."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.data import images, open_data, open_unlabelled, split
from zoo.training.self_training import Material, with_guesses
from zoo_cli.main import main

SHORT = {
    "top": 1.0,
    "head_epochs": 0,
    "epochs": 12,
    "rate": 1e-2,
    "patience": 12,
    "batch_size": 32,
    "augment": "none",
}


@pytest.fixture(scope="module")
def few(arrays):
    """Eight labelled pictures of each of four digits: uint8 [32, 28, 28] and labels."""
    return some(arrays, slice(8))


@pytest.fixture(scope="module")
def rest(arrays):
    """The 208 others, and their labels, which no training sees."""
    return some(arrays, slice(8, None))


def some(arrays, of_each):
    pictures, labels = arrays
    chosen = np.concatenate([np.flatnonzero(labels == digit)[of_each] for digit in (0, 1, 4, 7)])
    return pictures[chosen], labels[chosen]


@pytest.fixture(scope="module")
def teacher(tiny, arrays):
    """A network that knows the digits well."""
    return zoo.fine_tune(tiny(seed=3), arrays, **SHORT).model


def probabilities(model, pictures):
    taken = images(open_unlabelled(pictures), model.zoo.preprocessing, np.arange(len(pictures)))
    return model.predict(taken, verbose=0)


def accuracy(model, pictures, labels):
    names = np.asarray(model.zoo.labels).astype(int)
    return np.mean(names[probabilities(model, pictures).argmax(axis=1)] == labels)


def test_a_student_learns_from_what_its_teacher_has_labelled(tiny, few, rest, teacher):
    alone = zoo.fine_tune(tiny(), few, **SHORT)
    student = zoo.fine_tune(tiny(), few, teacher=teacher, unlabelled=rest[0], **SHORT)
    assert accuracy(teacher, *rest) > 0.9
    assert accuracy(student.model, *rest) > accuracy(alone.model, *rest) + 0.05
    assert student.data["pictures"] == 32
    assert (student.recipe.distillation, alone.recipe.distillation) == (0.0, 0.5)
    assert student.metrics["pictures"]["test"] == alone.metrics["pictures"]["test"]
    guessed = student.data["labelled_by_teacher"]
    assert guessed["pictures"] == sum(guessed["per_class"].values())
    assert (
        student.metrics["pictures"]["training"] == alone.metrics["pictures"]["training"] + guessed["pictures"]
    )


def test_known_copied_and_unsure_pictures_are_left_out(few, rest, teacher, tmp_path):
    pictures = open_data(few)
    material = Material(pictures, split(pictures, 0.15, 0.15))
    unlabelled = open_unlabelled(np.concatenate([few[0][:5], rest[0], rest[0][:7]]))
    answers = probabilities(teacher, rest[0])
    confidence = float(np.median(answers.max(axis=1)))
    sure = answers.max(axis=1) >= confidence
    taught = with_guesses(material, unlabelled, teacher, confidence, tmp_path)
    assert len(taught.pictures) == 32 + sure.sum() < 32 + 208
    np.testing.assert_allclose(taught.guesses, answers[sure], atol=1e-4)
    np.testing.assert_array_equal(taught.pictures.labels[32:], answers[sure].argmax(axis=1))
    for side in ("validation", "test"):
        np.testing.assert_array_equal(getattr(taught.sides, side), getattr(material.sides, side))
    targets, known = taught.targets(), len(material.sides.training)
    np.testing.assert_array_equal(targets[:known].argmax(axis=1), pictures.labels[material.sides.training])
    np.testing.assert_array_equal(targets[known:], taught.guesses)


def test_a_teacher_that_names_the_classes_in_another_order_is_understood(tiny, few, rest, tmp_path):
    other = tiny(seed=5, labels=("7", "0", "4", "1"))
    pictures = open_data(few)
    material = Material(pictures, split(pictures, 0.15, 0.15))
    taught = with_guesses(material, open_unlabelled(rest[0][:9]), other, 0.0, tmp_path)
    np.testing.assert_allclose(taught.guesses, probabilities(other, rest[0][:9])[:, [1, 3, 2, 0]], atol=1e-4)


def test_a_likeness_between_what_the_teacher_labelled_and_the_test_pictures_is_shown(tiny, few, teacher):
    pictures = open_data(few)
    seen = few[0][split(pictures, 0.15, 0.15).test[0]]
    darker = (0.9 * seen).astype(np.uint8)
    result = zoo.fine_tune(
        tiny(), few, teacher=teacher, unlabelled=darker[None], **SHORT | {"epochs": 1}, confidence=0.0
    )
    sides = [pair["sides"] for pair in result.near_duplicates]
    assert ["test", "training"] in sides


def test_several_labels_are_guessed_one_by_one(tiny, rest):
    names = ("0", "1", "4", "7")
    targets = np.eye(4, dtype=int)[np.searchsorted([0, 1, 4, 7], rest[1])]
    many = (rest[0][::2], targets[::2], names)
    teacher = zoo.fine_tune(tiny(), many, **SHORT).model
    answers = probabilities(teacher, rest[0][1::2])
    sure = np.maximum(answers, 1 - answers).min(axis=1) >= 0.7
    student = zoo.fine_tune(
        tiny(1), many, teacher=teacher, unlabelled=rest[0][1::2], confidence=0.7, **SHORT | {"epochs": 2}
    )
    assert student.data["labelled_by_teacher"]["pictures"] == sure.sum() > 0
    per_class = student.data["labelled_by_teacher"]["per_class"]
    assert list(per_class.values()) == (answers[sure] > 0.5).sum(axis=0).tolist()


@pytest.fixture(scope="module")
def heap(rest, tmp_path_factory):
    """A folder of pictures, some in folders of it, and a file that is none."""
    home = tmp_path_factory.mktemp("heap")
    (home / "2024").mkdir()
    for i, picture in enumerate(rest[0][:60]):
        Image.fromarray(picture).save(home / ("2024" if i % 2 else "") / f"{i:02}.png")
    (home / "notes.txt").write_text("no picture")
    return home


def test_the_command_takes_a_folder_and_the_report_tells(tiny, few, teacher, heap, tmp_path):
    for i, (picture, label) in enumerate(zip(*few, strict=True)):
        (tmp_path / "few" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "few" / str(label) / f"{i}.png")
    student, known = (zoo.save(m, tmp_path / f"{i}.keras") for i, m in enumerate((tiny(), teacher)))
    command = ["fine-tune", student, tmp_path / "few", "--out", tmp_path / "out", "--teacher", known]
    settings = ["--unlabelled", heap, "--set", "confidence=0", "--epochs", "1"]
    done = CliRunner().invoke(main, list(map(str, command + settings)))
    assert done.exit_code == 0, done.output
    report = (tmp_path / "out" / "report.html").read_text()
    assert "32 pictures and 60 that a teacher has labelled" in report


def test_pictures_of_a_folder_are_found_whatever_its_folders_are_called(heap, rest):
    pictures = open_unlabelled(heap)
    assert len(pictures) == 60
    assert set(pictures.hashes) == set(open_unlabelled(rest[0][:60]).hashes)
    assert set(open_unlabelled(sorted(heap.glob("*.png"))).hashes) < set(pictures.hashes)


def test_a_folder_of_a_job_with_other_unlabelled_pictures_is_refused(tiny, few, rest, teacher, tmp_path):
    short = SHORT | {"epochs": 1}
    zoo.fine_tune(tiny(), few, tmp_path / "out", teacher=teacher, unlabelled=rest[0][:50], **short)
    with pytest.raises(zoo.ZooError, match=r"another job \(other unlabelled\)"):
        zoo.fine_tune(tiny(), few, tmp_path / "out", teacher=teacher, unlabelled=rest[0][:51], **short)


def test_what_cannot_be_learnt_from_is_refused(tiny, few, rest, teacher, tmp_path):
    def student(unlabelled, **changes):
        zoo.fine_tune(tiny(), few, tmp_path / "out", unlabelled=unlabelled, **SHORT, **changes)

    with pytest.raises(zoo.ZooError, match="unlabelled pictures need a teacher"):
        student(rest[0])
    with pytest.raises(zoo.ZooError, match="the teacher has nothing to say: distillation is 0"):
        student(None, teacher=teacher, distillation=0.0)
    with pytest.raises(zoo.DataError, match="does not exist; give a folder of pictures"):
        student(tmp_path / "nowhere", teacher=teacher)
    (tmp_path / "empty").mkdir()
    with pytest.raises(zoo.DataError, match="holds no pictures"):
        student(tmp_path / "empty", teacher=teacher)
    (tmp_path / "empty" / "torn.png").write_bytes(b"torn")
    with pytest.raises(zoo.DataError, match=r"torn\.png"):
        student(tmp_path / "empty", teacher=teacher)
    with pytest.raises(zoo.DataError, match=r"values are in 0\.\.255, not 0\.\.1"):
        student(rest[0] / 255, teacher=teacher)
    with pytest.raises(zoo.DataError, match=r"picture 0: a picture is an array \[height, .*, not int64 \[\]"):
        student([3], teacher=teacher)
    assert not (tmp_path / "out").exists()
    with pytest.raises(zoo.ZooError, match=r"none of 5 unlabelled pictures can be learnt from: 5 are among"):
        student(few[0][:5], teacher=teacher)
    with pytest.raises(zoo.ZooError, match=r"none of 50 unlabelled pictures can be learnt from"):
        student(rest[0][:50], teacher=teacher, confidence=1.0)
    assert not any((tmp_path / "out").iterdir())
    student(rest[0][:50], teacher=teacher)
