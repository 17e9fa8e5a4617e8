"""Pictures that belong together, as a patient's or a film's, are on one side."""

import logging

import numpy as np
import pandas
import pytest
from PIL import Image

import zoo
from zoo.data import SIDES, open_data, split, write_records


@pytest.fixture
def frame(tmp_path):
    """30 patients of 8 pictures each, of which every one has both classes."""
    noise, rows = np.random.default_rng(5), []
    for i in range(240):
        path = tmp_path / f"{i:03}.png"
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
        rows.append({"path": str(path), "label": "ill" if i % 2 else "well", "patient": f"p{i // 8:02}"})
    return pandas.DataFrame(rows)


def sides_of(frame, validation=0.2, test=0.2):
    """Of each picture by its path."""
    pictures = open_data(frame)
    parts = split(pictures, validation, test)
    return {str(pictures.sources[i]): side for side in SIDES for i in getattr(parts, side)}


def test_a_group_is_on_one_side_and_the_sides_have_their_shares(frame, caplog):
    with caplog.at_level(logging.WARNING):
        sides = sides_of(frame)
    assert "30 groups, p00 first: each on one side" in caplog.text
    frame["side"] = frame["path"].map(sides)
    assert set(frame.groupby("patient")["side"].nunique()) == {1}
    assert frame["side"].value_counts(normalize=True).to_dict() == pytest.approx(
        {"training": 0.6, "validation": 0.2, "test": 0.2}, abs=0.14
    )
    alone = sides_of(frame.drop(columns="patient"))
    assert len(set(frame.groupby("patient")["path"].agg(lambda paths: len({alone[p] for p in paths})))) > 1


def test_neither_order_nor_further_pictures_of_a_group_move_any(frame):
    sides = sides_of(frame)
    assert sides_of(frame[::-1]) == sides
    few = frame.groupby("patient").head(3)
    assert sides_of(few) == {path: sides[path] for path in few["path"]}


def test_groups_that_share_a_picture_are_one(frame):
    sides = frame["path"].map(sides_of(frame))
    first, other = 0, int(np.flatnonzero(sides != sides[0])[0])
    Image.open(frame["path"][first]).save(frame["path"][other])
    linked = sides_of(frame)
    patients = frame["patient"].isin({frame["patient"][first], frame["patient"][other]})
    assert len({linked[path] for path in frame["path"][patients]}) == 1


def test_rows_without_a_group_go_by_their_content(frame):
    frame.loc[100:, "patient"] = ""
    sides, alone = sides_of(frame), sides_of(frame.drop(columns="patient"))
    assert {path: sides[path] for path in frame["path"][100:]} == {
        path: alone[path] for path in frame["path"][100:]
    }


def test_a_csv_says_it_too_and_records_keep_to_it(frame, tmp_path):
    table = tmp_path / "pictures.csv"
    frame.rename(columns={"patient": "Patient ID"}).to_csv(table, index=False)
    pictures = open_data(table)
    assert repr(pictures) == "Pictures(240 pictures of 2 classes)"
    assert pictures.facts()["groups"] == len(set(pictures.units)) == 30
    assert pictures.digest != open_data(frame.drop(columns="patient")).digest
    write_records(pictures, split(pictures, 0.2, 0.2), tmp_path / "records")
    again = open_data(tmp_path / "records")
    side_of = dict(zip(again.hashes, again.sides, strict=True))
    sides = frame["path"].map(sides_of(frame))
    assert [side_of[content] for content in pictures.hashes] == sides.tolist()


def test_sides_that_are_called_groups_are_told(frame):
    frame["patient"] = np.where(np.arange(240) % 3 == 0, "Test", "train")
    with pytest.raises(zoo.DataError, match='the column "patient" says Test and train: call it split'):
        open_data(frame)


def test_unreadable_pictures_link_no_groups(frame, tmp_path):
    for place in range(0, 240, 8):
        (tmp_path / f"{place:03}.png").write_bytes(b"no picture")
    with pytest.raises(zoo.DataError, match="cannot be decoded") as told:
        open_data(frame)
    assert "groups" not in str(told.value)


def test_a_class_of_too_few_groups_and_a_group_on_two_sides_are_told(frame):
    frame["label"] = np.where(frame["patient"] < "p02", "ill", "well")
    with pytest.raises(zoo.DataError, match='"ill" has only 2 groups that share no picture; at least 3 are'):
        open_data(frame)
    open_data(frame, to_split=False)
    frame["split"] = np.where(np.arange(240) < 100, "train", "val")
    with pytest.raises(zoo.DataError, match=r'096\.png and .*100\.png are of the group "p12", on two'):
        open_data(frame)
