import re
import shutil

import numpy as np
import pytest
from PIL import Image

from zoo.data import images, open_data
from zoo.data.folders import list_folder
from zoo.data.opening import PROBLEMS_SHOWN
from zoo.errors import DataError
from zoo.preprocessing import KIND_OF, Preprocessing, evaluate, load_images, read_image


def test_a_folder_per_class(folder):
    pictures = open_data(folder)
    assert pictures.classes == tuple("0123456789")
    assert len(pictures) == 360
    assert pictures.names[0].startswith("0/")
    assert [pictures.classes[label] for label in pictures.labels] == [name[0] for name in pictures.names]
    assert pictures.facts()["per_class"]["3"] == np.sum(pictures.labels == 3)


def test_arrays_and_the_folder_of_them_are_the_same_set(arrays, folder):
    from_arrays, from_folder = open_data(arrays), open_data(str(folder))
    assert from_arrays.digest == from_folder.digest
    assert sorted(from_arrays.hashes) == sorted(from_folder.hashes)


def test_colour_arrays_and_names(arrays):
    grey, labels = arrays
    colour = np.repeat(grey[..., None], 3, axis=-1)
    words = ("nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    pictures = open_data((colour, labels, words))
    assert pictures.classes == words
    assert pictures.hashes == open_data(arrays).hashes
    by_word = open_data((colour, np.asarray(words)[labels]))
    assert by_word.classes == tuple(sorted(words))
    assert pictures.digest != by_word.digest


def test_kinds_of_files_nested_folders_and_what_is_passed_over(folder, caplog):
    one = folder / "1"
    picture = sorted(one.iterdir())[0]
    kinds = ("jpg", "JPEG", "jfif", "bmp", "gif", "webp", "tif", "TIFF", "avif")
    for suffix in kinds:
        with Image.open(picture) as image:
            (one / "more" / "deep").mkdir(parents=True, exist_ok=True)
            image.save(one / "more" / "deep" / f"x.{suffix}", KIND_OF[f".{suffix.lower()}"])
    (one / "notes.txt").write_text("not a picture")
    (one / ".hidden.png").write_text("not a picture")
    (folder / ".cache").mkdir()
    for place in (folder / "__MACOSX" / "1", one / "@eaDir"):
        place.mkdir(parents=True)
        (place / "x.jpg").write_text("a system's, not a picture")
    (folder / "2" / "photo.HEIC").write_text("of no kind that is read")
    (folder / "README").write_text("nobody's picture")
    before = 360
    assert len(open_data(folder)) == before + len(kinds)
    passed_over = "2 files, 1/notes.txt first: not of a kind that is read (.heic, .txt); passed over"
    assert passed_over in caplog.text


def test_pictures_as_the_network_takes_them(folder):
    pictures = open_data(folder)
    batch = images(pictures, Preprocessing(input_size=(32, 24)), np.asarray([5, 2]))
    assert batch.shape == (2, 32, 24, 3)
    assert batch.dtype == np.uint8


def test_many_pictures_lie_in_a_file_that_nobody_finds(folder, tmp_path, monkeypatch):
    data, every = open_data(folder), np.arange(60)
    in_memory = images(data, Preprocessing(input_size=(32, 24)), every)
    monkeypatch.setattr("zoo.data.pictures.IN_MEMORY", 1000)
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    in_a_file = images(data, Preprocessing(input_size=(32, 24)), every)
    assert isinstance(in_a_file.base, np.memmap)
    np.testing.assert_array_equal(in_a_file, in_memory)
    assert not list(room.iterdir())


def test_more_pictures_than_the_disk_holds_are_refused_beforehand(folder):
    wanted = r"60 decoded pictures take \d+\.\d GB, and .* has less room: set TMPDIR to .* smaller input_size"
    with pytest.raises(DataError, match=wanted):
        images(open_data(folder), Preprocessing(input_size=(1 << 20, 1 << 20)), np.arange(60))


def test_large_photos_are_what_the_server_makes_of_them(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (160, 240, 3), np.uint8)
    for shift, label in ((0, "a"), (9, "b")):
        (tmp_path / label).mkdir()
        for i in range(3):
            Image.fromarray(np.roll(noise, shift + i, 1)).save(tmp_path / label / f"{label}{i}.jpg")
    data = open_data(tmp_path)
    p = Preprocessing((32, 32), 1.0)
    served = load_images(p, list(data.sources))
    np.testing.assert_array_equal(images(data, p, np.arange(6)), served)
    assert not np.array_equal(served[0], evaluate(p, read_image(data.sources[0])))


def test_all_that_is_wrong_is_listed_once(folder):
    (folder / "0" / "text.png").write_text("this is no picture")
    whole = sorted((folder / "1").iterdir())[0]
    (folder / "1" / "cut.png").write_bytes(whole.read_bytes()[:60])
    (folder / "empty").mkdir()
    (folder / "lonely").mkdir()
    shutil.copy(whole, folder / "lonely" / "only.png")
    shutil.copy(whole, folder / "loose.png")
    with pytest.raises(DataError) as caught:
        open_data(folder)
    message = str(caught.value)
    assert message.startswith(f'"{folder}" cannot be used:\n')
    assert "text.png" in message
    assert "cut.png" in message
    assert 'the class "empty" is empty' in message
    assert 'the class "lonely" has only 1 different and readable pictures; at least 3 are needed' in message
    assert "1 picture in no class folder, loose.png first" in message
    assert message.count("\n  - ") == 5


def test_a_long_list_is_cut(folder):
    for i in range(PROBLEMS_SHOWN + 20):
        (folder / "0" / f"bad{i}.png").write_text("no")
    with pytest.raises(DataError, match=r"\.\.\. and 20 more"):
        open_data(folder)


def test_copies_do_not_make_a_class_large_enough(folder):
    (folder / "copies").mkdir()
    for i in range(5):
        shutil.copy(
            folder / "1" / sorted(p.name for p in (folder / "1").iterdir())[0], folder / "copies" / f"{i}.png"
        )
    with pytest.raises(DataError, match='"copies" has only 1 different'):
        open_data(folder)


def test_one_class(arrays):
    grey, labels = arrays
    with pytest.raises(DataError, match='"4" is the only class; at least two are needed'):
        open_data((grey[labels == 4], labels[labels == 4]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "nowhere/at/all",
            'the data "nowhere/at/all" does not exist; give a folder with one folder of pictures',
        ),
        (__file__, "is neither a folder nor a .csv or .tfrecord file"),
        (17, "data must be a folder, a .csv or .tfrecord file, a tuple (images, labels)"),
    ],
)
def test_no_data_at_all(data, message):
    with pytest.raises(DataError, match=re.escape(message)):
        open_data(data)


@pytest.mark.parametrize(
    "names", [("Training", "dev", "testing"), ("seg_train", "seg_val", "seg_test"), ("train1", "val", "test")]
)
def test_a_word_for_the_side_is_enough(folder, tmp_path, names):
    for name in names:
        shutil.copytree(folder, tmp_path / "sides" / name)
    listed = list_folder(tmp_path / "sides")
    assert {item.side for item in listed.items} == {"training", "validation", "test"}
    assert listed.classes == tuple("0123456789")


def test_sides_are_not_taken_for_classes(folder, tmp_path):
    for name in ("seg_train", "seg_test", "seg_pred"):
        shutil.copytree(folder, tmp_path / "sides" / name)
    said = r'"seg_test", "seg_train" are called like sides of a split, "seg_pred" not: give one kind alone'
    with pytest.raises(DataError, match=said):
        open_data(tmp_path / "sides")


def test_a_class_may_be_called_train(folder):
    for old, new in (("0", "train"), ("1", "test_tube")):
        (folder / old).rename(folder / new)
    with pytest.raises(DataError, match='"test_tube", "train" are called like sides'):
        open_data(folder)
    (folder / "test_tube").rename(folder / "tube")
    assert "train" in open_data(folder).classes


def test_a_folder_around_the_classes_is_told(folder):
    with pytest.raises(DataError, match=f'it is one folder around 10: if those are .* give "{folder}"'):
        open_data(folder.parent)


def test_an_archive_is_told_apart(folder, tmp_path):
    for kind in ("zip", "gztar"):
        archive = shutil.make_archive(str(tmp_path / "pictures"), kind, folder)
        with pytest.raises(DataError, match="is an archive: unpack it, and give the folder"):
            open_data(archive)


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="it holds no pictures in class folders"):
        open_data(tmp_path)


def test_whole_numbers_and_yes_or_no_are_classes(arrays):
    grey, labels = arrays
    assert open_data((grey, labels.astype("float32"))).digest == open_data(arrays).digest
    assert open_data(zip(grey, labels.astype("float32"), strict=True)).classes == tuple("0123456789")
    assert open_data((grey, labels > 4)).classes == ("False", "True")


def test_arrays_that_do_not_fit(arrays):
    grey, labels = arrays
    with pytest.raises(DataError, match=r"360 images and labels of the shape \(359,\)"):
        open_data((grey, labels[1:]))
    with pytest.raises(
        DataError, match=r"values are in 0\.\.255, not -3\.\.2.*: give it as it was before"
    ) as caught:
        open_data((grey.astype("float32")[..., None, None] - 3, labels))
    assert "images have the shape (360, 16, 16, 1, 1)" in str(caught.value)
    assert "empty" not in str(caught.value)
    for fractions in ((grey, labels / 2), zip(grey, labels / 2, strict=True)):
        with pytest.raises(DataError, match=r"the label 0\.5 is no class: give integers or strings"):
            open_data(fractions)
    with pytest.raises(DataError, match="the label 9 is none of the 9 classes"):
        open_data((grey, labels, list("012345678")))
    with pytest.raises(DataError, match='the class "ten" is empty'):
        open_data((grey, labels, [*"0123456789", "ten"]))


def test_what_is_odd_but_usable_is_told_once_together(folder, caplog):
    """Equal to what a person would have made of the files by hand."""
    one, two = sorted((folder / "1").iterdir())[:2]
    picture = Image.open(one).convert("RGB")
    home = folder / "7"
    picture.convert("CMYK").save(home / "print.jpg", quality=95)
    Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)).save(home / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.resize((24, 12)).save(home / "phone.jpg", exif=turned, quality=95)
    picture.convert("RGBA").resize((20, 20)).save(home / "glass.png")
    picture.resize((18, 18)).save(home / "named.png", "JPEG")
    film = picture.resize((14, 14))
    film.save(home / "film.gif", save_all=True, append_images=[film.rotate(90)])
    shutil.copy(two, home / "other.png")
    (folder / "rare").mkdir()
    for i in range(4):
        Image.fromarray(np.full((16, 16), 10 * i, np.uint8)).save(folder / "rare" / f"{i}.png")
    with caplog.at_level("WARNING", "zoo"):
        pictures = open_data(folder)
    (record,) = caplog.records
    told = record.getMessage()
    assert told.startswith(f'"{folder}" can be used; note:\n')
    for sentence in (
        "1 file, 7/named.png first: not of the kind that the name says; read by content",
        "1 file, 7/print.jpg first: CMYK; converted to RGB",
        "1 file, 7/deep.png first: 16 bits a channel; the upper 8 are used",
        "1 file, 7/phone.jpg first: stored turned; set upright by EXIF",
        "1 file, 7/glass.png first: transparent; only colours are used",
        "1 file, 7/film.gif first: several frames; the first is used",
        f"1 exact duplicate, 1/{two.name} and 7/other.png first: each on one side",
        f"1 picture in more than one class, 1/{two.name} and 7/other.png first: correct the labels",
        "1 class of fewer than 20 pictures: rare (4)",
    ):
        assert f"\n  - {sentence}" in told
    sources = dict(zip(pictures.names, pictures.sources, strict=True))
    assert read_image(sources["7/phone.jpg"]).shape == (24, 12, 3)
    assert read_image(sources["7/deep.png"])[3, 7].tolist() == [3 * 16 + 7] * 3
    cmyk = read_image(sources["7/print.jpg"]).astype(int)
    assert np.abs(cmyk - np.asarray(picture, int)).mean() < 12


def test_nothing_odd_nothing_told(folder, caplog):
    with caplog.at_level("WARNING", "zoo"):
        open_data(folder)
    assert caplog.records == []
