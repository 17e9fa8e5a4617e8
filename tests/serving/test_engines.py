"""Every engine on the same network: the same signatures, the same answers, whoever asks at the same time."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from serving.errors import Code, ServingError
from serving.runtimes import Candidate, Runtime, start
from serving.runtimes.candidates import CANDIDATES
from serving.wire.protos import Example

IMAGES = np.random.default_rng(5).uniform(0, 255, (3, 32, 40, 3)).astype(np.float32)
# How far a probability may be off. The weights of an IR are float16.
CLOSE = {"f32": 1e-4, "f16": 1e-2, "int8": 0.1}
IN_THIS_PROCESS = [c for c in CANDIDATES if c.precision in CLOSE and c.runtime != "tensorflow"]


@pytest.fixture(scope="module")
def exact(every_format: Path) -> Runtime:
    return start(Candidate("onnx", "model.onnx"), every_format)


def asked(signature: str, png: Callable[..., bytes]) -> dict[str, np.ndarray]:
    """The inputs of a zoo model's signature."""
    pictures = [png((200, 30, 30)), png((10, 90, 160), (90, 70))]
    if signature == "serving_default":
        return {"image_bytes": np.array(pictures, object)}
    if signature == "classify":
        examples = [Example(), Example()]
        for example, picture in zip(examples, pictures, strict=True):
            example.features.feature["image/encoded"].bytes_list.value.append(picture)
        return {"inputs": np.array([example.SerializeToString() for example in examples], object)}
    return {"images": IMAGES}


@pytest.mark.parametrize("candidate", IN_THIS_PROCESS, ids=str)
def test_every_file_has_the_same_signatures_and_answers(
    every_format: Path, exact: Runtime, png: Callable[..., bytes], candidate: Candidate
) -> None:
    runtime = start(candidate, every_format)
    assert runtime.signatures == exact.signatures
    for name, signature in exact.signatures.items():
        outputs = list(signature.outputs)
        inputs = asked(name, png)
        got, wanted = runtime.run(name, inputs, outputs), exact.run(name, inputs, outputs)
        for alias in outputs:
            assert (got[alias].dtype, got[alias].shape) == (wanted[alias].dtype, wanted[alias].shape)
        for alias in {"probabilities", "scores"} & set(outputs):
            close = CLOSE["f16" if candidate.file == "model.xml" else candidate.precision]
            np.testing.assert_allclose(got[alias], wanted[alias], atol=close)


@pytest.mark.parametrize("candidate", IN_THIS_PROCESS, ids=str)
def test_no_pictures_are_no_error(every_format: Path, candidate: Candidate) -> None:
    runtime = start(candidate, every_format)
    outputs = runtime.run("predict_images", {"images": IMAGES[:0]}, ["probabilities", "classes"])
    assert (outputs["probabilities"].shape, outputs["classes"].shape) == ((0, 3), (0, 3))
    assert runtime.run("features", {"images": IMAGES[:0]}, ["features"])["features"].shape == (0, 64)


@pytest.mark.parametrize("candidate", IN_THIS_PROCESS[:4], ids=str)
def test_requests_at_the_same_time_do_not_mix(
    every_format: Path, exact: Runtime, candidate: Candidate
) -> None:
    runtime = start(candidate, every_format)

    def ask(i: int) -> np.ndarray:
        images = IMAGES[i % 3 : i % 3 + 1]
        return runtime.run("predict_images", {"images": images}, ["probabilities"])["probabilities"]

    wanted = exact.run("predict_images", {"images": IMAGES}, ["probabilities"])["probabilities"]
    with ThreadPoolExecutor(8) as together:
        for i, got in enumerate(together.map(ask, range(60))):
            np.testing.assert_allclose(got[0], wanted[i % 3], atol=1e-2)


@pytest.mark.parametrize("candidate", IN_THIS_PROCESS, ids=str)
def test_bad_input_names_the_field(every_format: Path, candidate: Candidate) -> None:
    runtime = start(candidate, every_format)
    for images, message in (
        (IMAGES[0], r'Input "images" must be float \[\?, \?, \?, 3\], got float \[32, 40, 3\]'),
        (IMAGES[..., :2], r'Input "images" must be float \[\?, \?, \?, 3\], got float \[3, 32, 40, 2\]'),
        (IMAGES.astype(np.int64), r'Input "images" must be float .*, got int64'),
    ):
        with pytest.raises(ServingError, match=message) as caught:
            runtime.run("predict_images", {"images": images}, ["probabilities"])
        assert caught.value.code == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_file_for_two_pictures_answers_for_any_number(
    tmp_path: Path, publish: Callable[..., None], colour_model: Callable[..., onnx.ModelProto], engine: str
) -> None:
    """As `zoo export --batch 2` writes it."""
    publish(tmp_path / "any", 1, colour_model())
    fixed = colour_model()
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    publish(tmp_path / "two", 1, fixed)
    two, whole = (start(Candidate(engine, "model.onnx"), tmp_path / name / "1") for name in ("two", "any"))
    for count in (1, 2, 3):
        images = {"images": IMAGES[:count]}
        got, wanted = (
            one.run("predict_images", images, ["probabilities", "classes"]) for one in (two, whole)
        )
        np.testing.assert_allclose(got["probabilities"], wanted["probabilities"], atol=1e-6)
        np.testing.assert_array_equal(got["classes"], wanted["classes"])
    assert two.run("features", {"images": IMAGES}, ["features"])["features"].shape == (3, 3)


def test_whole_numbers_stay_so_without_a_card(every_format: Path, tmp_path: Path) -> None:
    shutil.copy(every_format / "model_int8.tflite", tmp_path)
    runtime = start(Candidate("litert", "model_int8.tflite", "int8"), tmp_path)
    signature = runtime.signatures["serving_default"]
    assert str(signature.inputs["images"]) == "uint8 [?, 32, 40, 3]"
    pixels = IMAGES.astype(np.uint8)
    outputs = runtime.run("serving_default", {"images": pixels}, ["probabilities"])
    assert outputs["probabilities"].dtype == np.uint8
    with pytest.raises(ServingError, match=r'Input "images" is empty, \[0, 32, 40, 3\]'):
        runtime.run("serving_default", {"images": pixels[:0]}, ["probabilities"])


def test_a_plain_file_in_openvino(tmp_path: Path, spin_model: Callable[..., onnx.ModelProto]) -> None:
    onnx.save(spin_model(), tmp_path / "model.onnx")
    runtime = start(Candidate("openvino", "model.onnx"), tmp_path)
    (spec,) = runtime.signatures["serving_default"].inputs.values()
    assert str(spec) == "int64 []"
    product = runtime.run("serving_default", {"times": np.array(3)}, ["product"])["product"]
    np.testing.assert_array_equal(product, np.eye(64, dtype=np.float32))
    with pytest.raises(ServingError, match=r'Input "times" must be int64 \[\], got int64 \[2\]'):
        runtime.run("serving_default", {"times": np.array([3, 4])}, ["product"])


def test_openvino_is_given_no_text(tmp_path: Path, add_model: Callable[..., onnx.ModelProto]) -> None:
    onnx.save(add_model(), tmp_path / "model.onnx")
    with pytest.raises(ServingError) as caught:
        start(Candidate("openvino", "model.onnx"), tmp_path)
    assert caught.value.code in (Code.UNIMPLEMENTED, Code.DATA_LOSS)


def test_bfloat16_is_refused_or_near(every_format: Path, exact: Runtime) -> None:
    """As the processor has it: OpenVINO would compute in float32 without a word."""
    flags = Path("/proc/cpuinfo").read_text()
    candidate = Candidate("openvino", "model.onnx", "bf16")
    if "avx512_bf16" not in flags and "amx_bf16" not in flags:
        with pytest.raises(ServingError, match="this processor does not compute in bfloat16"):
            start(candidate, every_format)
        return
    got = start(candidate, every_format).run("features", {"images": IMAGES}, ["features"])["features"]
    wanted = exact.run("features", {"images": IMAGES}, ["features"])["features"]
    np.testing.assert_allclose(got, wanted, rtol=0.05, atol=0.05)
    assert not np.array_equal(got, wanted)
