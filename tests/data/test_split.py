import numpy as np
import pytest

from zoo.data import SIDES, open_data, split
from zoo.errors import ZooError


def sides_of(pictures, **fractions):
    parts = split(pictures, **({"validation": 0.15, "test": 0.15} | fractions))
    return {pictures.hashes[i]: side for side in SIDES for i in getattr(parts, side)}


def test_every_picture_is_on_one_side_in_about_the_wanted_share(arrays):
    pictures = open_data(arrays)
    parts = split(pictures, 0.2, 0.1)
    everything = np.concatenate([parts.training, parts.validation, parts.test])
    assert sorted(everything) == list(range(len(pictures)))
    assert len(parts.validation) / len(pictures) == pytest.approx(0.2, abs=0.06)
    assert len(parts.test) / len(pictures) == pytest.approx(0.1, abs=0.05)
    for part in (parts.training, parts.validation, parts.test):
        assert set(pictures.labels[part]) == set(range(10))


def test_adding_pictures_moves_no_other(arrays):
    grey, labels = arrays
    few, all_of_them = sides_of(open_data((grey[:200], labels[:200]))), sides_of(open_data(arrays))
    assert {content: all_of_them[content] for content in few} == few


def test_the_order_of_the_pictures_does_not_matter(arrays):
    grey, labels = arrays
    pictures, turned = open_data(arrays), open_data((grey[::-1], labels[::-1]))
    for part, other in zip(
        vars(split(pictures, 0.15, 0.15)).values(), vars(split(turned, 0.15, 0.15)).values(), strict=True
    ):
        assert [pictures.hashes[i] for i in part] == [turned.hashes[i] for i in other]


def test_copies_are_on_one_side(arrays):
    grey, labels = arrays
    pictures = open_data((np.concatenate([grey, grey[:50]]), np.concatenate([labels, labels[:50]])))
    assert pictures.facts()["duplicates"] == 50
    parts = split(pictures, 0.15, 0.15)
    contents = [{pictures.hashes[i] for i in part} for part in (parts.training, parts.validation, parts.test)]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]


def test_one_picture_in_two_classes_is_counted_and_stays_on_one_side(arrays):
    grey, labels = arrays
    pictures = open_data((np.concatenate([grey, grey[:1]]), np.append(labels, (labels[0] + 1) % 10)))
    assert pictures.facts()["contradictions"] == 1
    assert sum(map(len, vars(split(pictures, 0.15, 0.15)).values())) == 361


@pytest.mark.parametrize("seed", range(20))
def test_a_class_of_three_pictures_has_one_on_each_side(arrays, seed):
    grey, labels = arrays
    random = np.random.default_rng(seed)
    chosen = np.concatenate(
        [random.choice(np.flatnonzero(labels == digit), 3, replace=False) for digit in range(10)]
    )
    pictures = open_data((grey[chosen], labels[chosen]))
    parts = split(pictures, 0.15, 0.15)
    for part in (parts.training, parts.validation, parts.test):
        assert sorted(pictures.labels[part]) == list(range(10))


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.5, 0.5), (0.2, float("nan"))])
def test_shares_that_leave_nothing_to_learn_from_are_refused(arrays, shares):
    with pytest.raises(ZooError, match=r"at least 0 and together below 1, not -?0\.\d and "):
        split(open_data(arrays), *shares)
