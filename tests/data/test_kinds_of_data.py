"""The other ways in which people keep labelled pictures; each gives the same set as the arrays do."""

import io

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from zoo.data import open_data, split, write_records
from zoo.errors import DataError
from zoo.preprocessing import read_image


def sides(pictures):
    """What split makes of the fractions 0.15 and 0.15: the number of pictures on each side."""
    return {side: len(indices) for side, indices in vars(split(pictures, 0.15, 0.15)).items()}


def test_a_table_of_paths(arrays, folder):
    _, labels = arrays
    lines = [f'"{label}/{i:04}.png",{label}' for i, label in enumerate(labels)]
    (folder / "digits.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    assert open_data(folder / "digits.csv").digest == open_data(arrays).digest


def test_a_table_may_quote_and_name_the_sides(arrays, tmp_path):
    rows = ['File,"Class",split']
    for i, (image, label) in enumerate(zip(*arrays, strict=True)):
        Image.fromarray(image).save(tmp_path / f"a, b {i}.png")
        rows.append(f'"a, b {i}.png","a ""{label}""",{("train", "val", "test")[min(i % 10, 2)]}')
    (tmp_path / "table.csv").write_text("\ufeff" + "\r\n".join(rows), "utf-8")
    pictures = open_data(tmp_path / "table.csv")
    assert pictures.classes[4] == 'a "4"'
    assert sides(pictures) == {"training": 36, "validation": 36, "test": 288}


@pytest.mark.parametrize(("delimiter", "ending"), [(";", "csv"), ("\t", "csv"), ("\t", "tsv")])
def test_a_table_of_a_spreadsheet_on_windows(arrays, folder, delimiter, ending):
    lines = [f"{label}\\{i:04}.png{delimiter}{label}" for i, label in enumerate(arrays[1])]
    file = folder / f"digits.{ending}"
    file.write_text(f"path{delimiter}label\n" + "\n".join(lines) + "\n")
    assert open_data(file).digest == open_data(arrays).digest


def test_a_path_without_its_ending_is_told(folder):
    (folder / "short.csv").write_text("path,label\n0/0000,0\n1/0000,1\n")
    with pytest.raises(DataError, match=r'line 2: "0/0000" does not exist, "0/0000\.png" does') as caught:
        open_data(folder / "short.csv")
    assert 'line 3: "1/0000" does not exist\n' in f"{caught.value}\n"


def test_all_that_is_wrong_with_a_table_is_listed(folder):
    lines = ["path,label,split", "gone.png,1,", "0/0000.png,,", "0/0000.png,0,holdout", ",0,"]
    (folder / "bad.csv").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        open_data(folder / "bad.csv")
    for problem in (
        'line 2: "gone.png" does not exist',
        "line 3: a path or a label is missing",
        'line 4: the split "holdout" is none of train, val, test',
        "line 5: a path or a label is missing",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name,label\nx,1\n", 'it has no column "path", only name, label: call the columns path and label'),
        ("path,label\n", "it names no pictures"),
        ('path,label\n"open,1\n', "it is not a CSV file in UTF-8: unexpected end of data"),
    ],
)
def test_a_table_that_is_none(tmp_path, text, problem):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=problem):
        open_data(tmp_path / "table.csv")


def paths_and_labels(arrays, folder):
    return [(folder / str(label) / f"{i:04}.png", str(label)) for i, label in enumerate(arrays[1])]


@pytest.mark.parametrize("kind", ["pairs", "strings", "two lists", "groups", "frame"])
def test_paths_in_memory(arrays, folder, kind):
    pairs = paths_and_labels(arrays, folder)
    paths, labels = zip(*pairs, strict=True)
    data = {
        "pairs": pairs,
        "strings": [{"image": str(path), "label": label} for path, label in pairs],
        "two lists": (list(paths), list(labels)),
        "groups": {name: [path for path, label in pairs if label == name] for name in sorted(set(labels))},
        "frame": pd.DataFrame({"filename": map(str, paths), "class": labels}),
    }[kind]
    pictures = open_data(data)
    assert pictures.digest == open_data(arrays).digest
    assert str(paths[3]) in pictures.names


def test_a_frame_names_sides_and_several_labels(arrays, folder):
    pairs = paths_and_labels(arrays, folder)
    frame = pd.DataFrame(
        {
            "path": [path for path, _ in pairs],
            "even": [int(label) % 2 == 0 for _, label in pairs],
            "small": [float(int(label) < 4) for _, label in pairs],
            "split": ["train" if i % 2 else None for i in range(len(pairs))],
        }
    )
    pictures = open_data(frame)
    assert pictures.classes == ("even", "small")
    np.testing.assert_array_equal(pictures.labels[:, 1], arrays[1] < 4)
    assert pictures.sides[:2] == ("", "training")


def test_what_is_wrong_with_a_frame_is_listed(folder):
    frame = pd.DataFrame({"path": ["gone.png", folder / "0" / "0000.png"], "label": ["1", float("nan")]})
    with pytest.raises(DataError) as caught:
        open_data(frame)
    assert 'the data frame cannot be used:\n  - row 0: "gone.png" does not exist' in str(caught.value)
    assert "row 1: a path or a label is missing" in str(caught.value)


def test_a_dict_of_sides_keeps_its_pictures(arrays):
    rows = [{"image": image, "label": int(label)} for image, label in zip(*arrays, strict=True)]
    pictures = open_data({"train": rows[::2], "test": rows[1::2]})
    assert pictures.classes == open_data(arrays).classes
    assert (pictures.sides.count("training"), pictures.sides.count("test")) == (180, 180)


def test_the_two_sides_that_keras_gives(arrays):
    """As keras.datasets.cifar10.load_data: labels [N, 1]; and its MNIST, with a channel put on."""
    grey, labels = arrays[0][..., None], arrays[1][:, None]
    pictures = open_data(((grey[::2], labels[::2]), (grey[1::2], labels[1::2])))
    assert sides(pictures) == {"training": 153, "validation": 27, "test": 180}
    assert open_data((grey, labels)).digest == open_data(arrays).digest


def test_images_and_labels_may_be_of_any_form(arrays):
    grey, labels = arrays
    opened = [Image.fromarray(image) for image in grey]
    encoded = []
    for image in opened:
        file = io.BytesIO()
        image.save(file, "PNG")
        encoded.append(file.getvalue())
    for images in (opened, encoded, [*grey], tf.constant(grey)):
        assert open_data((images, labels)).digest == open_data(arrays).digest
    with pytest.raises(
        DataError, match=r"picture 1: a picture's values are in 0\.\.255, not 0\.\.1: give it"
    ):
        open_data(([grey[0], grey[1] / grey[1].max()], labels[:2]))
    with pytest.raises(DataError, match=r"there is 'pictures/' for the images: give a list of them"):
        open_data(("pictures/", labels))


def test_a_dict_of_labels_has_its_classes_in_order(arrays):
    images, labels = arrays
    groups = {label: [*images[labels == label]] for label in (7, 0, 1)}
    assert open_data(groups).classes == ("7", "0", "1")
    with pytest.raises(DataError, match='the class "9"'):
        open_data({**groups, 9: []})
    with pytest.raises(DataError, match='the class "9" has "nines": give a list of its pictures'):
        open_data({**groups, 9: "nines"})


def test_missing_files_and_mixed_labels_in_memory_are_named(arrays, tmp_path):
    images, labels = arrays
    with pytest.raises(DataError, match=r"nowhere.png"):
        open_data([*zip(images, labels, strict=True), (tmp_path / "nowhere.png", 0)])
    with pytest.raises(DataError, match="some labels are numbers and some are texts: give one kind"):
        open_data([*zip(images, labels, strict=True), (images[0], "zero")])


@pytest.fixture
def split_folder(arrays, tmp_path):
    for i, (image, label) in enumerate(zip(*arrays, strict=True)):
        home = tmp_path / ("train" if i % 4 else "Val") / f"digit {label}"
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{i}.png")
    return tmp_path


def test_folders_of_sides_keep_their_pictures(split_folder):
    pictures = open_data(split_folder)
    assert pictures.classes[3] == "digit 3"
    parts = split(pictures, 0.5, 0.2)
    assert {pictures.names[i].split("/")[0] for i in parts.validation} == {"Val"}
    assert {pictures.names[i].split("/")[0] for i in (*parts.training, *parts.test)} == {"train"}
    assert len(parts.validation) == 90
    assert len(parts.test) / 270 == pytest.approx(0.2, abs=0.06)


def test_the_same_picture_on_two_sides_is_refused(split_folder):
    picture = next((split_folder / "train" / "digit 5").iterdir())
    (split_folder / "Val" / "digit 5" / "copy.png").write_bytes(picture.read_bytes())
    with pytest.raises(DataError, match=r"Val/digit 5/copy\.png and train/digit 5/.* are the same picture"):
        open_data(split_folder)


@pytest.mark.parametrize("batch", [0, 32])
def test_a_dataset_of_tensorflow(arrays, batch):
    grey, labels = arrays
    dataset = tf.data.Dataset.from_tensor_slices((grey[..., None], labels))
    assert open_data(dataset.batch(batch) if batch else dataset).digest == open_data(arrays).digest


def test_labels_in_a_column_of_their_own(arrays):
    """As keras.datasets gives CIFAR's: [N, 1]."""
    grey, labels = arrays
    dataset = tf.data.Dataset.from_tensor_slices((grey[..., None], labels[:, None]))
    assert open_data(dataset).digest == open_data(arrays).digest


def test_rows_of_other_libraries(arrays):
    """As Hugging Face datasets give them: Pillow's pictures, numbers, and the classes' names aside."""

    class Names:
        names = tuple("abcdefghij")

    class Rows(list):
        features = {"label": Names}  # noqa: RUF012

    rows = Rows(
        {"image": Image.fromarray(image), "label": int(label)} for image, label in zip(*arrays, strict=True)
    )
    pictures = open_data(rows)
    assert pictures.classes == tuple("abcdefghij")
    assert pictures.hashes == open_data(arrays).hashes


def test_a_dataset_of_paths(folder):
    paths = sorted(map(str, folder.glob("*/*.png")))
    labels = [int(path.split("/")[-2]) for path in paths]
    pictures = open_data(tf.data.Dataset.from_tensor_slices((paths, labels)))
    assert sorted(pictures.hashes) == sorted(open_data(folder).hashes)
    assert pictures.names[0] == paths[0]
    with pytest.raises(DataError, match=r'"gone\.png" does not exist'):
        open_data(tf.data.Dataset.from_tensor_slices((["gone.png", *paths[1:]], labels)))


@pytest.mark.parametrize("mode", ["int", "binary"])
def test_what_keras_reads_from_a_folder(mode, folder, tmp_path):
    """Batches of float32, with the classes' names."""
    home = tmp_path / "two"
    home.mkdir()
    for digit in "17":
        (home / f"digit {digit}").symlink_to(folder / digit)
    read = keras.utils.image_dataset_from_directory(
        home, image_size=(16, 16), batch_size=7, label_mode=mode, follow_links=True, verbose=False
    )
    pictures, files = open_data(read), open_data(home)
    assert pictures.classes == ("digit 1", "digit 7")
    found, expected = ({*zip(p.hashes, p.labels.tolist(), strict=True)} for p in (pictures, files))
    assert found == expected


def test_encoded_rows_and_what_is_wrong_with_rows(arrays):
    grey, labels = arrays
    encoded = []
    for image in grey:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        encoded.append(file.getvalue())
    rows = list(zip(encoded, labels, strict=True))
    assert open_data(rows).hashes == open_data(arrays).hashes
    undecoded = [{"image": {"bytes": image, "path": "x.png"}, "label": label} for image, label in rows]
    assert open_data(undecoded).hashes == open_data(arrays).hashes
    bad = [(b"\xffno picture", 1), (grey[0] / grey[0].max(), 1), {"picture of": 1}, (grey[0],), *rows]
    with pytest.raises(DataError) as caught:
        open_data(bad)
    for problem in (
        "row 1: a picture's values are in 0..255, not 0..1: give it as it was before",
        "row 2: it has no image or no label, but: picture of",
        'row 3: give rows {"image": ..., "label": ...} or (image, label)',
        "picture 0: picture cannot be decoded",
    ):
        assert problem in str(caught.value)


def test_records_are_written_and_read(arrays, folder, tmp_path):
    pictures = open_data(folder)
    parts = split(pictures, 0.15, 0.15)
    files = write_records(pictures, parts, tmp_path / "records")
    assert [file.name for file in files] == [
        f"{side}-00000-of-00001.tfrecord" for side in ("test", "train", "val")
    ]
    again = open_data(tmp_path / "records")
    assert again.classes == pictures.classes
    assert sorted(again.hashes) == sorted(pictures.hashes)
    assert sides(again) == {side: len(indices) for side, indices in vars(parts).items()}
    first = next(iter(tf.data.TFRecordDataset(str(files[0])).as_numpy_iterator()))
    kinds = {"image/encoded": tf.string, "image/class/label": tf.int64}
    example = tf.io.parse_single_example(first, {k: tf.io.FixedLenFeature([], v) for k, v in kinds.items()})
    assert tf.io.decode_png(example["image/encoded"]).shape == (16, 16, 1)
    with pytest.raises(DataError, match=r'records" exists; give the name of a new folder'):
        write_records(pictures, parts, tmp_path / "records")


def test_damaged_records_are_named(folder, tmp_path):
    pictures = open_data(folder)
    files = write_records(pictures, split(pictures, 0.15, 0.15), tmp_path / "records")
    files[0].write_bytes(files[0].read_bytes()[:-20])
    with tf.io.TFRecordWriter(str(files[2])) as file:
        file.write(tf.train.Example().SerializeToString())
    with pytest.raises(DataError) as caught:
        open_data(tmp_path / "records")
    assert f"{files[0].name} is damaged" in str(caught.value)
    assert f"{files[2].name}:0 has no image/encoded, or no label" in str(caught.value)


def test_pictures_are_turned_as_their_exif_says(tmp_path):
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:5] = 255
    turned = Image.fromarray(np.rot90(upright))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned to the right: show it 90 degrees clockwise
    turned.save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), upright)


def test_other_colours_are_read(tmp_path):
    red = np.full((8, 8, 3), (200, 30, 30), np.uint8)
    Image.fromarray(red).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(int) - red).max() < 10
    Image.fromarray(np.full((8, 8), 0x8040, np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == 0x80).all()
