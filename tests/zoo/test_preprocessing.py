"""The same pixels by Pillow, by TensorFlow, and by the published transform written out with Pillow alone."""

import io
import re
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from zoo import preprocessing
from zoo.errors import DataError, ZooError
from zoo.preprocessing import Preprocessing

PHOTOS = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
SHAPES = ((427, 640), (640, 427), (224, 224), (91, 333), (1000, 37))


def published_transform(image: np.ndarray, size: int, crop: float, resample: Image.Resampling) -> np.ndarray:
    """Resize(floor(size / crop)) of the shorter side, CenterCrop(size): torchvision's two steps, square
    inputs.
    """
    short = int(size / crop)
    height, width = image.shape[:2]
    scale = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
    resized = Image.fromarray(image).resize(scale[::-1], resample)
    left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def photo(name: str, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(PHOTOS[name]).resize(shape[::-1], Image.Resampling.NEAREST))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("interpolation", "resample"), [("bilinear", 2), ("bicubic", 3)])
def test_equals_the_published_transform(shape, interpolation, resample):
    p = Preprocessing((224, 224), 0.875, interpolation)
    image = photo("china", shape)
    np.testing.assert_array_equal(
        preprocessing.evaluate(p, image), published_transform(image, 224, 0.875, Image.Resampling(resample))
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(224, 224), (192, 160), (300, 300)])
def test_tensorflow_gives_pillows_pixels(shape, interpolation, size):
    p = Preprocessing(size, 0.9, interpolation)
    for name in PHOTOS:
        image = photo(name, shape)
        expected = preprocessing.evaluate(p, image).astype(np.float32)
        got = preprocessing.tf_evaluate(p, tf.constant(image)).numpy()
        assert got.shape == (*size, 3)
        difference = np.abs(got - expected)
        assert difference.max() <= 2, f"{difference.max()} / 255"
        assert difference.mean() <= 0.3, f"{difference.mean()} / 255 on average"


def test_a_batch_equals_its_pictures_in_a_graph():
    p = Preprocessing((96, 96))
    images = np.stack([photo("china", (200, 150)), photo("flower", (200, 150))])
    graph = tf.function(
        lambda x: preprocessing.tf_evaluate(p, x),
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
    )
    one_by_one = np.stack([preprocessing.tf_evaluate(p, tf.constant(image)).numpy() for image in images])
    np.testing.assert_array_equal(graph(images).numpy(), one_by_one)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_both_decoders_agree(kind, mode):
    file = io.BytesIO()
    Image.fromarray(PHOTOS["flower"]).convert(mode).save(file, kind)
    expected = preprocessing.read_image(file.getvalue())
    got = preprocessing.tf_decode(tf.constant(file.getvalue())).numpy()
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_sixteen_bit_png_keeps_its_greys():
    file = io.BytesIO()
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(grey).save(file, "PNG")
    np.testing.assert_array_equal(
        preprocessing.read_image(file.getvalue())[..., 0], np.arange(256).reshape(16, 16)
    )


@pytest.mark.parametrize(("mode", "dtype"), [("I", "int32"), ("F", "float32")])
def test_pixels_of_32_bits_are_refused_not_made_white_or_black(tmp_path, mode, dtype):
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.linspace(0, 1000, 64 * 64).reshape(64, 64).astype(dtype)).save(path)
    with pytest.raises(DataError, match=rf'deep\.tiff" has 32 bits for a pixel \(mode "{mode}"\)'):
        preprocessing.load_image(Preprocessing(), path)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((8, 8, 3), bool), "bool [8, 8, 3]"),
        (np.zeros((8, 8, 4), np.uint8), "uint8 [8, 8, 4]"),
        (np.zeros((0, 8, 3), np.uint8), "uint8 [0, 8, 3]"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(array, named):
    with pytest.raises(DataError, match=re.escape(f"[height, width, 3] in 0..255, not {named}")):
        preprocessing.evaluate(Preprocessing(), array)


@pytest.mark.parametrize(
    ("values", "named"),
    [((0, 0.5), "0..0.5"), ((-2.0, 2.5), "-2..2.5"), ((0, 300), "0..300"), ((0, np.nan), "nan")],
)
def test_numbers_that_are_no_pixels_are_refused(values, named):
    image = np.resize(np.array(values), (8, 8, 3))
    with pytest.raises(DataError, match=re.escape(f"a picture's values are in 0..255, not {named}")):
        preprocessing.read_image(image)


def test_numbers_in_0_to_255_are_rounded():
    image = PHOTOS["china"].astype(np.float32)
    np.testing.assert_array_equal(preprocessing.read_image(image + 0.4 - 0.8 * (image > 0)), PHOTOS["china"])
    np.testing.assert_array_equal(preprocessing.read_image(PHOTOS["china"].astype(int)), PHOTOS["china"])
    assert preprocessing.read_image(np.zeros((8, 8, 3))).dtype == np.uint8


def test_a_picture_comes_in_any_form(tmp_path):
    rgb = PHOTOS["flower"]
    turned = Image.fromarray(np.rot90(rgb))
    turned.getexif()[0x0112] = 6  # to be shown a quarter further
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    opened = Image.open(tmp_path / "turned.png")
    size = opened.size
    forms = [rgb, tf.constant(rgb), tmp_path / "turned.png", (tmp_path / "turned.png").read_bytes(), opened]
    for form in forms:
        np.testing.assert_array_equal(preprocessing.read_image(form), rgb)
    assert opened.size == size, "the image given was turned itself"
    fitted = preprocessing.load_images(Preprocessing(), forms)
    np.testing.assert_array_equal(fitted, np.repeat(fitted[:1], len(forms), axis=0))
    (tmp_path / "torn.png").write_bytes((tmp_path / "turned.png").read_bytes()[:5000])
    with pytest.raises(DataError, match="picture cannot be decoded as a picture: image file is truncated"):
        preprocessing.read_image(Image.open(tmp_path / "torn.png"))
    grey = rgb[..., 0]
    for form in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(preprocessing.read_image(form), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("sources", ["rose.jpg", [], PHOTOS["china"], Image.fromarray(PHOTOS["china"])])
def test_several_pictures_are_a_list(sources):
    with pytest.raises(DataError, match="takes a list of pictures"):
        preprocessing.load_images(Preprocessing(), sources)


def test_a_file_that_is_no_picture_is_named(tmp_path):
    path = tmp_path / "note.jpg"
    path.write_text("not a picture")
    with pytest.raises(DataError, match=r'note\.jpg" cannot be decoded as a picture'):
        preprocessing.read_image(path)
    with pytest.raises(
        DataError, match=r"^picture cannot be decoded as a picture: it is no JPEG, PNG, [A-Z, ]+$"
    ):
        preprocessing.read_image(path.read_bytes())
    with pytest.raises(DataError, match="does not exist"):
        preprocessing.read_image(tmp_path / "absent.jpg")


@pytest.mark.parametrize("kind", ["EPS", "PSD", "PPM"])
def test_kinds_that_pillow_alone_would_read_are_refused(kind):
    file = io.BytesIO()
    if kind == "PSD":
        file.write(b"8BPS" + struct.pack(">H6xHIIHHIII", 1, 3, 2, 2, 8, 3, 0, 0, 0) + bytes(2 + 12))
    else:
        Image.fromarray(PHOTOS["china"]).resize((16, 16)).save(file, kind)
    with Image.open(file) as image:
        assert image.format == kind
    with pytest.raises(DataError, match="it is no JPEG"):
        preprocessing.read_image(file.getvalue())


def test_a_truncated_picture_is_refused(tmp_path):
    file = io.BytesIO()
    Image.fromarray(PHOTOS["china"]).save(file, "JPEG")
    with pytest.raises(DataError, match="cannot be decoded"):
        preprocessing.read_image(file.getvalue()[:2000])


def test_a_bomb_of_pixels_is_refused():
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    with pytest.raises(DataError, match="9000 x 9000 pixels"):
        preprocessing.read_image(file.getvalue())


def test_a_thread_of_pixels_is_refused():
    with pytest.raises(DataError, match="100000 x 1 pixels is too thin"):
        preprocessing.evaluate(Preprocessing(), np.zeros((1, 100000, 3), np.uint8))


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ({"input_size": 224}, "(height, width) in pixels, not 224"),
        ({"input_size": (0, 224)}, "(height, width) in pixels, not (0, 224)"),
        ({"crop": 0}, "more than 0 and at most 1, not 0"),
        ({"crop": 87.5}, "more than 0 and at most 1, not 87.5"),
        ({"interpolation": "nearest"}, "interpolation is bilinear or bicubic, not 'nearest'"),
    ],
)
def test_facts_that_are_none_are_refused(fact, message):
    with pytest.raises(ZooError, match=re.escape(message)):
        Preprocessing(**fact)


def test_facts_survive_json():
    p = Preprocessing((100, 200), 0.95, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert Preprocessing.from_dict(p.to_dict()) == p


def jpeg(image: np.ndarray, exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90, exif=exif or Image.Exif())
    return buffer.getvalue()


@pytest.mark.parametrize("size", [13, 26, 46, 52, 92, 104])
@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_smaller_and_stays_within_its_tolerance(name, size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = jpeg(PHOTOS[name][:424], exif)
    p = Preprocessing((size, size), 1.0)
    expected = preprocessing.evaluate(p, preprocessing.read_image(encoded)).astype(int)
    difference = np.abs(preprocessing.load_image(p, encoded) - expected)
    assert 0 < difference.max() <= 16
    assert difference.mean() < 1


def test_a_jpeg_less_than_four_times_too_large_or_of_odd_sides_is_decoded_whole():
    for image, size in ((PHOTOS["china"][:424], 107), (PHOTOS["china"], 32)):
        p = Preprocessing((size, size), 1.0)
        expected = preprocessing.evaluate(p, preprocessing.read_image(jpeg(image)))
        np.testing.assert_array_equal(preprocessing.load_image(p, jpeg(image)), expected)


def test_a_picture_that_is_no_jpeg_is_decoded_whole():
    buffer = io.BytesIO()
    Image.fromarray(PHOTOS["flower"][:424]).save(buffer, "PNG")
    p = Preprocessing((32, 32))
    expected = preprocessing.evaluate(p, PHOTOS["flower"][:424])
    np.testing.assert_array_equal(preprocessing.load_image(p, buffer.getvalue()), expected)


def test_a_camera_photos_top_class_is_the_whole_ones():
    import zoo

    model = zoo.load("efficientnet")
    p = zoo.facts(model).preprocessing
    for image in PHOTOS.values():
        encoded = jpeg(np.asarray(Image.fromarray(image).resize((2048, 1536))))
        pair = [
            preprocessing.load_image(p, encoded),
            preprocessing.evaluate(p, preprocessing.read_image(encoded)),
        ]
        small, whole = model.predict(np.stack(pair), verbose=0)
        assert small.argmax() == whole.argmax()
        np.testing.assert_allclose(small, whole, atol=0.02)
