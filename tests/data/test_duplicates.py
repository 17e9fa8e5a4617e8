"""Pictures that look alike on two sides of a split are found; those that are only of a kind are not."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from zoo.data import near_duplicates, open_data, split
from zoo.data.duplicates import LIKENESS


@pytest.fixture(scope="module")
def crops():
    """Twenty-four parts of two photos, uint8 [200, 200, 3]."""
    corners = [(top, left) for top in (0, 110, 220) for left in (0, 140, 280, 420)]
    return [
        photo[top : top + 200, left : left + 200]
        for photo in load_sample_images().images
        for top, left in corners
    ]


def again(rgb, quality=60, side=150):
    """The same picture as another program would keep it: smaller, lighter, a JPEG."""
    buffer = io.BytesIO()
    lighter = Image.fromarray((rgb * 0.9 + 20).astype(np.uint8)).resize((side, side))
    lighter.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_a_copy_that_was_changed_is_found_on_the_other_side(crops):
    rows = [(crop, i % 2) for i, crop in enumerate(crops)] + [
        (again(crops[i]), i % 2) for i in range(0, 24, 3)
    ]
    pictures = open_data(rows)
    sides = split(pictures, 0.3, 0.3)
    side_of = {i: name for name in ("training", "validation", "test") for i in getattr(sides, name)}
    expected = {(i, 24 + i // 3) for i in range(0, 24, 3) if side_of[i] != side_of[24 + i // 3]}
    found = near_duplicates(pictures, sides)
    assert expected
    assert {tuple(sorted(pair["indices"])) for pair in found} == expected
    for pair in found:
        assert [side_of[i] for i in pair["indices"]] == pair["sides"]
        assert LIKENESS <= pair["likeness"] <= 1
        assert len(set(pair["labels"])) == 1


def test_pictures_of_one_colour_are_alike_to_none():
    rows = [(np.full((20, 20), grey, np.uint8), grey % 2) for grey in range(0, 240, 4)]
    rows += [(np.full((20, 20), grey, np.uint8), 1) for grey in range(1, 241, 4)]
    pictures = open_data(rows)
    assert near_duplicates(pictures, split(pictures, 0.3, 0.3)) == []


def test_different_digits_are_no_duplicates(arrays):
    pictures = open_data(arrays)
    assert len(near_duplicates(pictures, split(pictures, 0.2, 0.2))) < 5
