"""Pictures with any number of labels, from tables, arrays, rows and records; each label is on every side."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from zoo.data import SIDES, open_data, split, write_records
from zoo.errors import DataError
from zoo.training.augmentation.showing import show_views

PROPERTIES = ("even", "large", "square")


@pytest.fixture(scope="module")
def several(arrays):
    """images uint8 [360, 16, 16] of digits, and bool [360, 3]: whether each is even, above 4, a square."""
    images, digits = arrays
    return images, np.stack([digits % 2 == 0, digits > 4, np.isin(digits, (0, 1, 4, 9))], axis=1)


@pytest.fixture(scope="module")
def home(several, tmp_path_factory):
    home = tmp_path_factory.mktemp("properties")
    for i, image in enumerate(several[0]):
        Image.fromarray(image).save(home / f"{i:03}.png")
    return home


@pytest.fixture(scope="module")
def expected(several):
    return open_data((*several, PROPERTIES))


def write_table(home, name, header, cells):
    """A line for each of the pictures 000.png, 001.png, ... with these cells."""
    lines = [header, *(f"{i:03}.png,{cell}" for i, cell in enumerate(cells))]
    (home / name).write_text("\n".join(lines) + "\n")
    return home / name


def marked(targets, mark):
    return [mark.join(np.asarray(PROPERTIES)[row]) for row in targets]


def test_arrays_of_0_and_1(several, expected):
    images, targets = several
    assert expected.classes == PROPERTIES
    assert expected.labels.dtype == bool
    np.testing.assert_array_equal(expected.labels, targets)
    numbers = open_data((images, targets.astype(np.float32)))
    assert numbers.classes == ("0", "1", "2")
    np.testing.assert_array_equal(numbers.labels, targets)
    facts = expected.facts()
    assert facts["per_class"] == dict(zip(PROPERTIES, targets.sum(axis=0).tolist(), strict=True))
    assert facts["contradictions"] == 0
    assert expected.described(0) == "even and square"
    assert expected.described(3) == "no label"


@pytest.mark.parametrize(
    ("header", "mark"),
    [("path,labels", "|"), ("file,tags", ";"), ("path,label", "|"), ("path,label", ";"), ("path,tags", " ")],
    ids=["bar", "semicolon", "bar-under-label", "semicolon-under-label", "space"],
)
def test_a_table_of_labels_between_marks(several, home, expected, header, mark):
    table = write_table(home, "marked.csv", header, marked(several[1], mark))
    assert open_data(table).digest == expected.digest


def test_labels_between_commas_are_quoted(several, home, expected):
    table = write_table(home, "quoted.csv", "path,labels", [f'"{c}"' for c in marked(several[1], ", ")])
    assert open_data(table).digest == expected.digest


@pytest.mark.parametrize(
    "words", [("0", "1"), ("0.0", "1.0"), ("False", "True")], ids=["whole", "float", "bool"]
)
def test_a_table_with_a_column_for_each_label(several, home, expected, words):
    rows = [",".join(words[flag] for flag in row.astype(int)) for row in several[1]]
    table = write_table(home, "flags.csv", "path," + ",".join(PROPERTIES), rows)
    assert open_data(table).digest == expected.digest


def test_the_numbers_of_rows_that_pandas_writes_are_no_label(several, home, expected):
    lines = [f",image,{', '.join(PROPERTIES)},split"]
    for i, row in enumerate(several[1]):
        lines.append(f"{i},{i:03}.png,{','.join(map(str, row.astype(int)))},{('train', 'val')[i % 4 == 0]}")
    (home / "pandas.csv").write_text("\n".join(lines))
    pictures = open_data(home / "pandas.csv")
    assert pictures.classes == PROPERTIES
    np.testing.assert_array_equal(pictures.labels, several[1])
    assert pictures.sides.count("validation") == 90


def test_a_column_label_without_marks_holds_one(arrays, home):
    table = write_table(home, "one.csv", "path,label", [f"digit {digit}" for digit in arrays[1]])
    pictures = open_data(table)
    assert pictures.labels.shape == (360,)
    assert pictures.classes[3] == "digit 3"


@pytest.mark.parametrize(
    ("header", "cells", "problem"),
    [
        ("path,even,large", ["1,0", "1,maybe"], 'the column "large" holds "maybe" in line 3, not 0 or 1'),
        ("path,even,large", ["1,0", "1"], 'the column "large" holds "" in line 3, not 0 or 1'),
        ("path,even,large", ["1,-1", "1,0"], 'the column "large" holds "-1" in line 2, not 0 or 1'),
        ("path,even,even", ["1,0", "1,0"], 'it names the column "even" twice'),
        ("path,kind", ["cat", "dog"], 'there is no column "label", and the column "kind" holds "cat"'),
        (
            "path,split",
            ["train", "val"],
            'it has no column "label", only path, split: call the columns path and label',
        ),
        ("path,labels", ["", ""], "no picture has a label"),
        ("path,labels", ["even", "even"], '"even" is the only class; at least two are needed'),
        ("path,labels", ["even|odd", "even"], 'the class "odd" has only 1 different and readable pictures'),
    ],
    ids=[
        "word",
        "short",
        "uncertain",
        "twice",
        "other-column",
        "no-labels",
        "all-empty",
        "one-label",
        "rare",
    ],
)
def test_what_is_wrong_with_a_table(home, header, cells, problem):
    table = write_table(home, "wrong.csv", header, cells)
    with pytest.raises(DataError) as caught:
        open_data(table)
    assert problem in str(caught.value)


def test_a_missing_file_is_named_with_its_line(home):
    (home / "missing.csv").write_text("path,labels\ngone.png,even|odd\n,even\n")
    with pytest.raises(DataError) as caught:
        open_data(home / "missing.csv")
    assert 'line 2: "gone.png" does not exist' in str(caught.value)
    assert "line 3: a path is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda images, targets: (images, targets + 1), r"targets of the shape \(360, 3\) must be 0 or 1"),
        (lambda images, targets: (images, targets * 0.5), "must be 0 or 1, one column for each class"),
        (lambda images, targets: (images, targets[1:]), r"360 images and labels of the shape \(359, 3\)"),
        (
            lambda images, targets: (images, targets, ("a", "b")),
            "there are 2 classes and 3 columns of targets",
        ),
        (lambda images, targets: (images, targets[..., None]), r"of the shape \(360, 3, 1\)"),
    ],
    ids=["ones-and-twos", "halves", "fewer", "names", "three-axes"],
)
def test_what_is_wrong_with_targets(several, change, problem):
    with pytest.raises(DataError, match=problem):
        open_data(change(several[0], several[1].astype(int)))


def test_rows_of_lists_and_of_arrays(several, expected):
    images, targets = several
    lists = [
        (image, np.asarray(PROPERTIES)[row].tolist()) for image, row in zip(images, targets, strict=True)
    ]
    assert open_data(lists).digest == expected.digest

    class Names:
        class feature:  # noqa: N801
            names = PROPERTIES

    class Rows(list):
        features = {"labels": Names}  # noqa: RUF012

    rows = Rows(
        {"image": image, "labels": np.flatnonzero(row).tolist()}
        for image, row in zip(images, targets, strict=True)
    )
    assert open_data(rows).digest == expected.digest
    dataset = tf.data.Dataset.from_tensor_slices((images[..., None], targets.astype(np.int64)))
    np.testing.assert_array_equal(open_data(dataset.batch(50)).labels, targets)
    np.testing.assert_array_equal(open_data(dataset).labels, targets)
    with pytest.raises(DataError, match="labels are of several kinds: give each row one label, an array"):
        open_data([*lists, (images[0], 1)])


def test_records_keep_all_labels(several, expected, tmp_path):
    sides = split(expected, 0.15, 0.15)
    files = write_records(expected, sides, tmp_path / "records")
    again = open_data(tmp_path / "records")
    assert again.classes == PROPERTIES
    assert {name: len(part) for name, part in vars(split(again, 0.15, 0.15)).items()} == {
        name: len(part) for name, part in vars(sides).items()
    }
    known = dict(zip(expected.hashes, expected.labels.tolist(), strict=True))
    assert all(known[h] == row for h, row in zip(again.hashes, again.labels.tolist(), strict=True))
    first = next(iter(tf.data.TFRecordDataset(str(files[1])).as_numpy_iterator()))
    kinds = {"image/class/label": tf.io.VarLenFeature(tf.int64)}
    assert tf.io.parse_single_example(first, kinds)["image/class/label"].shape == (1,)


def test_the_same_picture_is_on_one_side_and_each_label_on_all(several, expected):
    images, targets = several
    twice = open_data((np.concatenate([images, images[:60]]), np.concatenate([targets, targets[:60]])))
    sides = split(twice, 0.15, 0.15)
    contents = [{twice.hashes[i] for i in getattr(sides, side)} for side in SIDES]
    assert sum(map(len, contents)) == len(set(twice.hashes))
    assert all(twice.labels[getattr(sides, side)].any(axis=0).all() for side in SIDES)
    assert len(sides.validation) / len(twice) == pytest.approx(0.15, abs=0.06)
    few = split(open_data((images[:200], targets[:200])), 0.15, 0.15)
    of = {expected.hashes[i]: side for side in SIDES for i in getattr(split(expected, 0.15, 0.15), side)}
    assert all(of[expected.hashes[i]] == side for side in SIDES for i in getattr(few, side))


@pytest.mark.parametrize("seed", range(10))
def test_rare_labels_are_on_every_side(several, seed):
    """Three pictures have the rare label, all of them a common one, too."""
    images, targets = several
    rare = np.zeros((len(images), 1), bool)
    random = np.random.default_rng(seed)
    rare[random.choice(np.flatnonzero(targets[:, 0]), 3, replace=False)] = True
    pictures = open_data((images, np.concatenate([targets, rare], axis=1)))
    sides = split(pictures, 0.15, 0.15)
    for side in SIDES:
        assert pictures.labels[getattr(sides, side)].any(axis=0).all()


def test_what_a_person_should_know_is_said_once(several, home, caplog):
    images, targets = several
    other = targets[:1] ^ True
    with caplog.at_level(logging.WARNING, logger="zoo"):
        open_data((np.concatenate([images, images[:1]]), np.concatenate([targets, other])))
        open_data([(image, [f"{i % 10}"]) for i, image in enumerate(images)])
        open_data(write_table(home, "spaces.csv", "path,tags", marked(targets, " ")))
    unlabelled = int((~targets.any(axis=1)).sum())
    assert f"{unlabelled} pictures without a label" in caplog.text
    assert "1 picture labelled in more than one way, picture 0 and picture 360 first" in caplog.text
    assert "every picture has one label: where no picture can have two, give one column label" in caplog.text
    assert 'the column "tags" is split at spaces: write | between labels that have spaces' in caplog.text


def test_rows_with_one_1_each_are_of_one_label(several, home, caplog):
    images, labels = several[0], np.arange(360) % 10
    rows = np.eye(10, dtype=int)[labels]
    table = write_table(
        home, "dummies.csv", "path,a,b,c,d,e,f,g,h,i,j", [",".join(map(str, row)) for row in rows]
    )
    ways = (
        (images, rows),
        (images, rows.astype(np.float32)),
        zip(images, rows, strict=True),
        table,
    )
    for data in ways:
        caplog.clear()
        opened = open_data(data)
        np.testing.assert_array_equal(opened.labels, labels)
        assert "every row of 0 and 1 has one 1: each picture has one label" in caplog.text
    rows[7, rows[7].argmin()] = 1
    assert open_data((images, rows)).labels.shape == (360, 10)


def test_the_views_are_shown_with_all_labels(several, tmp_path):
    out = show_views(
        (*several, PROPERTIES), tmp_path / "views.png", pictures=3, views=2, mixup=0.5, input_size=32
    )
    with Image.open(out) as image:
        assert image.size[0] > 300
