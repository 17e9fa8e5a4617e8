"""From a photo to the pixels a network was trained on: resize the shorter side, crop the centre.

Normalisation is inside the network. Libraries are imported where they are used: listing needs facts only.

The one definition that training, export, server and client share. `evaluate` does it with Pillow,
`tf_evaluate` with TensorFlow's own resampling in the same two rounded passes, so that both give the same
pixels (measured in tests/zoo/test_preprocessing.py).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from zoo.errors import DataError, ZooError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from PIL import Image

Picture: TypeAlias = "str | PathLike[str] | bytes | np.ndarray | Image.Image"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_PIXELS = 64_000_000

# What is read, by the end of a file's name. Of what else Pillow knows some run other programs (EPS), or
# decode in Python for seconds (PPM).
KIND_OF = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
KINDS = tuple(dict.fromkeys(KIND_OF.values()))
UNBOUNDED = ("I", "F")  # Pillow's modes that it would clip at 255

_TF_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}


@dataclass(frozen=True)
class Preprocessing:
    """What one set of weights expects of its pictures.

    input_size is (height, width) in pixels; crop is the fraction of the resized picture that the centre
    crop keeps; interpolation is bilinear or bicubic; mean and std are per RGB channel on a 0..1 scale, and
    applied inside the network. Raises ZooError for anything else.
    """

    input_size: tuple[int, int] = (224, 224)
    crop: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        pair = isinstance(self.input_size, tuple | list) and len(self.input_size) == 2
        if not pair or min(self.input_size) < 1:
            raise ZooError(f"input_size is (height, width) in pixels, not {self.input_size!r}")
        if not 0 < self.crop <= 1:
            raise ZooError(f"crop is a fraction, more than 0 and at most 1, not {self.crop!r}")
        if self.interpolation not in _TF_KERNELS:
            raise ZooError(f"interpolation is {' or '.join(_TF_KERNELS)}, not {self.interpolation!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Preprocessing:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
        return cls(**values)

    @property
    def scale_size(self) -> tuple[int, int]:
        """(height, width) that the resized picture covers before the crop."""
        height, width = self.input_size
        return math.floor(height / self.crop), math.floor(width / self.crop)


def read_image(source: Picture) -> np.ndarray:
    """A picture -> RGB uint8 [H, W, 3], upright as its EXIF orientation says.

    source: a file's path, its bytes, an image of Pillow's, or an array [H, W, 3], [H, W, 1] or [H, W] in
    0..255, floats of which are rounded. Raises DataError naming the file when it is no picture of KINDS, and
    for other arrays.
    """
    import numpy as np
    from PIL import Image

    if isinstance(source, str | PathLike | bytes | Image.Image):
        return np.asarray(_decoded(source))
    return whole(coloured(np.asarray(source)))


def whole(array: np.ndarray) -> np.ndarray:
    """Numbers in 0..255 -> uint8, rounded. Raises DataError for others, as those scaled to 0..1."""
    import numpy as np

    array = in_range(array)
    return array if array.dtype == np.uint8 else np.rint(array).astype(np.uint8)


def in_range(array: np.ndarray) -> np.ndarray:
    """The numbers as they are. Raises DataError for those that are not in 0..255, as those scaled to 0..1."""
    import numpy as np

    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise _no_picture(array)
    low, high = array.min(initial=255), array.max(initial=0)
    fits = low >= 0 and high <= 255
    if not fits or 0 < high <= 1:
        raise DataError(
            f"a picture's values are in 0..255, not {low:.3g}..{high:.3g}: give it as it was before"
        )
    return array


def is_one(pictures: Picture | Iterable[Picture]) -> bool:
    """Whether it is one picture, not several: an array [N, H, W, 3] is several."""
    several = isinstance(pictures, Iterable) and not isinstance(pictures, str | PathLike | bytes)
    return not several or getattr(pictures, "ndim", 4) < 4


def listed(pictures: Picture | Iterable[Picture]) -> list[Picture]:
    """One picture, or several, as a list."""
    return [pictures] if is_one(pictures) else list(pictures)  # type: ignore[arg-type, list-item]


def coloured(array: np.ndarray) -> np.ndarray:
    """[H, W, 3], [H, W, 1] or [H, W] of any dtype -> [H, W, 3]. Raises DataError for other shapes."""
    import numpy as np

    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise _no_picture(array)
    return array


def _no_picture(array: np.ndarray) -> DataError:
    opaque = array.ndim in (3, 4) and array.shape[-1] == 4
    return DataError(
        f"a picture is an array [height, width, 3] in 0..255, not {array.dtype} {list(array.shape)}"
        + ("; of red, green, blue and how opaque they are take array[..., :3]" if opaque else "")
    )


def _decoded(source: str | PathLike[str] | bytes | Image.Image, least: int | None = None) -> Image.Image:
    """The picture in RGB, upright; with `least`, a JPEG at a half, a quarter or an eighth of its size where
    its sides are still so long.
    """
    from PIL import Image, UnidentifiedImageError

    name = f'"{source}"' if isinstance(source, str | PathLike) else "picture"
    try:
        if isinstance(source, Image.Image):
            return _rgb(source.copy(), name)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=KINDS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{name} has {image.width} x {image.height} pixels; "
                    f"at most {MAX_PIXELS} are read: make it smaller"
                )
            # Sides that do not divide would be rounded up, and the picture move by a part of a pixel.
            if least and image.width % 8 == image.height % 8 == 0:
                image.draft(None, (least, least))
            return _rgb(image, name)
    except FileNotFoundError:
        raise DataError(f"{name} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{name} is a folder: give the pictures that are in it") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} cannot be decoded as a picture: it is no {', '.join(KINDS)}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded as a picture: {error}") from error


def _rgb(image: Image.Image, name: str) -> Image.Image:
    """The image, turned upright in place, in RGB."""
    import numpy as np
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in UNBOUNDED:
        raise DataError(
            f'{name} has 32 bits for a pixel (mode "{image.mode}") and says of none what is white: '
            "save it with 8 or 16"
        )
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def evaluate(preprocessing: Preprocessing, image: Picture) -> np.ndarray:
    """A picture -> uint8 [h, w, 3] at the input size: torchvision's evaluation transform.

    Raises DataError as `read_image` does, and for a picture so thin that resizing its shorter side makes it
    enormous.
    """
    from PIL import Image

    return _fitted(preprocessing, Image.fromarray(read_image(image)))


def _fitted(preprocessing: Preprocessing, image: Image.Image) -> np.ndarray:
    import numpy as np
    from PIL import Image

    height, width = _covering_size(image.height, image.width, preprocessing.scale_size)
    if height * width > MAX_PIXELS:
        raise DataError(
            f"a picture of {image.width} x {image.height} pixels is too thin: "
            f"it would be resized to {width} x {height}"
        )
    resized = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    top, left = (_offset(*pair) for pair in zip((height, width), preprocessing.input_size, strict=True))
    return np.asarray(
        resized.crop((left, top, left + preprocessing.input_size[1], top + preprocessing.input_size[0]))
    )


def load_image(preprocessing: Preprocessing, source: Picture) -> np.ndarray:
    """`evaluate`, and faster where the picture is a file much larger than the input size.

    A JPEG whose sides are multiples of 8 and at least four times as long as needed is decoded at a half, a
    quarter or an eighth of its size, at least twice as large as needed: several times faster, pixels within
    16 of 255, on average within 1. Raises DataError as `evaluate` does.
    """
    if isinstance(source, str | PathLike | bytes):
        return _fitted(preprocessing, _decoded(source, 2 * max(preprocessing.scale_size)))
    return evaluate(preprocessing, source)


def load_images(preprocessing: Preprocessing, sources: Iterable[Picture]) -> np.ndarray:
    """N pictures, at least one -> uint8 [N, h, w, 3]: load_image of each."""
    import numpy as np

    images = [] if is_one(sources) else [load_image(preprocessing, source) for source in sources]
    if not images:
        raise DataError(f"load_images takes a list of pictures, not {sources!r:.80}; load_image takes one")
    return np.stack(images)


def tf_decode(encoded: tf.Tensor) -> tf.Tensor:
    """Scalar string (JPEG, PNG, BMP, WebP, GIF's first frame) -> uint8 [H, W, 3], with the pixels that Pillow
    decodes, but as they are stored: TensorFlow knows no EXIF orientation.
    """
    import tensorflow as tf

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def other() -> tf.Tensor:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    image.set_shape((None, None, 3))
    return image


def tf_evaluate(preprocessing: Preprocessing, images: tf.Tensor) -> tf.Tensor:
    """[N, H, W, 3] or [H, W, 3], 0..255 of any dtype -> float32 whole numbers 0..255 of the same rank, at
    the input size.
    """
    import tensorflow as tf

    if images.shape.rank == 3:
        return tf_evaluate(preprocessing, images[None])[0]
    shape = tf.shape(images)
    height, width = _tf_covering_size(shape[1], shape[2], preprocessing.scale_size)
    kernel = _TF_KERNELS[preprocessing.interpolation]
    wide = _tf_resize(tf.cast(images, tf.float32), shape[1], width, kernel)
    resized = _tf_resize(wide, height, width, kernel)
    rows, columns = preprocessing.input_size
    top, left = _tf_offset(height, rows), _tf_offset(width, columns)
    cropped = resized[:, top : top + rows, left : left + columns]
    return tf.ensure_shape(cropped, (None, rows, columns, 3))


def _covering_size(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """The size with the picture's own aspect that just covers the target."""
    rows, columns = target
    if height * columns <= width * rows:
        return rows, rows * width // height
    return columns * height // width, columns


def _offset(size: int, crop: int) -> int:
    return round((size - crop) / 2)


def _tf_covering_size(height: Any, width: Any, target: tuple[int, int]) -> tuple[Any, Any]:
    import tensorflow as tf

    rows, columns = target
    by_height = height * columns <= width * rows
    return (
        tf.where(by_height, rows, columns * height // width),
        tf.where(by_height, rows * width // height, columns),
    )


def _tf_offset(size: Any, crop: int) -> Any:
    import tensorflow as tf

    return tf.cast(tf.round(tf.cast(size - crop, tf.float32) / 2), tf.int32)


def _tf_resize(images: Any, height: Any, width: Any, kernel: str) -> Any:
    """One antialiased resize, rounded to whole pixel values as Pillow rounds after each of its passes."""
    import tensorflow as tf

    before = tf.cast(tf.shape(images)[1:3], tf.float32)
    size = tf.stack([height, width])
    resized = tf.raw_ops.ScaleAndTranslate(
        images=images,
        size=size,
        scale=tf.cast(size, tf.float32) / before,
        translation=tf.zeros(2),
        kernel_type=kernel,
        antialias=True,
    )
    return tf.clip_by_value(tf.floor(resized + 0.5), 0.0, 255.0)
