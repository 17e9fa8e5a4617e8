"""One's own pictures to compare by: folders, classes, and what is wrong with them."""

import numpy as np
import pytest
from PIL import Image

import exporters
from exporters.pictures import CALIBRATION, calibration, fit, given

ExportError = exporters.ExportError


@pytest.fixture
def folder(tmp_path, photos):
    for i, name in enumerate(("daisy", "tulip", "daisy/nested", "daisy/.hidden")):
        (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos[i % 2][:64, :80]).save(tmp_path / "own" / name / "a.png")
    (tmp_path / "own" / "daisy" / "notes.txt").write_text("no picture")
    return tmp_path / "own"


def test_a_folder_for_each_class_tells_the_accuracy(tiny, folder, tmp_path):
    done = exporters.export(tiny, tmp_path / "x", "keras", pictures=folder)
    figures, found = done.parity["keras"], given(folder, tiny.zoo)
    answers = tiny(fit(tiny.zoo.preprocessing, found.pictures)).numpy().argmax(-1)
    assert figures.accuracy == figures.model_accuracy == np.mean(answers == found.truth)
    assert figures.pictures == len(found.pictures) == 3


def test_truth(tiny, folder, photos):
    found = given(folder, tiny.zoo)
    assert found.real
    assert found.truth.tolist() == [0, 0, 2]
    by_class = given({"tulip": photos, "daisy": photos[:1]}, tiny.zoo)
    assert by_class.truth.tolist() == [2, 2, 0]
    assert given(photos, tiny.zoo).truth is None
    assert not given(None, tiny.zoo).real


def test_folders_of_other_things_are_pictures_too(tiny, folder):
    (folder / "tulip").rename(folder / "garden")
    with pytest.raises(ExportError, match='in the class "garden", which is none of the labels of tiny'):
        given(folder, tiny.zoo)
    (folder / "daisy").rename(folder / "meadow")
    assert given(folder, tiny.zoo).truth is None


def test_wrong_sources(tiny, tmp_path, photos):
    with pytest.raises(ExportError, match='none" is no folder; give a folder of pictures'):
        given(tmp_path / "none", tiny.zoo)
    with pytest.raises(ExportError, match="pictures is empty"):
        given(tmp_path, tiny.zoo)
    with pytest.raises(ExportError, match='in the class "lily"'):
        given({"lily": photos}, tiny.zoo)


def test_calibration_is_spread_over_all(tiny):
    pictures = [np.full((8, 8, 3), i // 4, np.uint8) for i in range(4 * CALIBRATION)]
    images = calibration(pictures, tiny.zoo.preprocessing)
    assert images.shape == (CALIBRATION, 32, 40, 3)
    assert images[:, 0, 0, 0].tolist() == list(range(CALIBRATION))


def test_a_tolerance_by_format(tiny, tmp_path):
    with pytest.raises(ExportError, match=r"tflite is not equal to the model: max_rel .* allowed is 0"):
        exporters.export(tiny, tmp_path / "x", ("keras", "tflite"), tolerance={"tflite": 0.0})
    with pytest.raises(ExportError, match='unknown format "tflit"; did you mean "tflite"'):
        exporters.export(tiny, tmp_path / "x", "keras", tolerance={"tflit": 1.0})
    assert list(tmp_path.iterdir()) == []
