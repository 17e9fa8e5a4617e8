"""Warm-up files: replayed before a version is served, and a reason not to serve it when they cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from serving.errors import Code, ServingError
from serving.models.warmup import FILE, LIMIT, warm_up, warmed
from serving.runtimes import load
from serving.wire import records
from serving.wire.protos import Example, PredictionLog
from serving.wire.tensors import to_proto


@pytest.fixture
def version(
    tmp_path: Path, publish: Callable[..., None], colour_model: Callable[..., onnx.ModelProto]
) -> Path:
    publish(tmp_path / "m", 1, colour_model())
    return tmp_path / "m" / "1"


class Counted:
    """A runtime that remembers which signatures ran."""

    name = "counted"

    def __init__(self, version: Path) -> None:
        self._runtime = load(version)
        self.signatures = self._runtime.signatures
        self.ran: list[str] = []

    def run(self, signature: str, inputs: Any, outputs: Any) -> Any:
        self.ran.append(signature)
        return self._runtime.run(signature, inputs, outputs)


def write(version: Path, *logs: bytes) -> None:
    file = version / FILE
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"".join(records.framed(log) for log in logs))


def predict_log(signature: str = "predict_images", width: int = 48) -> bytes:
    log = PredictionLog()
    log.predict_log.request.model_spec.name = "someone else's"
    log.predict_log.request.model_spec.signature_name = signature
    images = to_proto(np.zeros((1, 32, width, 3), np.uint8))
    log.predict_log.request.inputs["images"].CopyFrom(images)
    return log.SerializeToString()


def classify_log(png: Callable[..., bytes]) -> bytes:
    log = PredictionLog()
    log.classify_log.request.model_spec.signature_name = "classify"
    example = Example()
    example.features.feature["image/encoded"].bytes_list.value.append(png((255, 0, 0)))
    log.classify_log.request.input.example_list.examples.append(example)
    return log.SerializeToString()


def multi_log(png: Callable[..., bytes]) -> bytes:
    single = PredictionLog.FromString(classify_log(png)).classify_log.request
    log = PredictionLog()
    log.multi_inference_log.request.input.CopyFrom(single.input)
    task = log.multi_inference_log.request.tasks.add(method_name="tensorflow/serving/classify")
    task.model_spec.signature_name = "classify"
    return log.SerializeToString()


def test_every_record_is_answered_so_often(version: Path, png: Callable[..., bytes]) -> None:
    write(version, predict_log(), classify_log(png), multi_log(png), predict_log("features"))
    runtime = Counted(version)
    warm_up(runtime, version, repeats=2)
    assert runtime.ran == ["predict_images"] * 2 + ["classify"] * 4 + ["features"] * 2
    assert warmed(load)(version).name == "onnx"


def test_no_file_is_no_failure(version: Path) -> None:
    runtime = Counted(version)
    warm_up(runtime, version)
    assert runtime.ran == []


def regress_log() -> bytes:
    log = PredictionLog()
    log.regress_log.request.model_spec.signature_name = "features"
    log.regress_log.request.input.example_list.examples.append(Example())
    return log.SerializeToString()


def session_log() -> bytes:
    log = PredictionLog()
    log.session_run_log.SetInParent()
    return log.SerializeToString()


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"no records at all", Code.DATA_LOSS, "Please verify your warmup data is in TFRecord format."),
        (records.framed(b"x" * 99)[:50], Code.DATA_LOSS, "truncated or damaged record at 0 in "),
        (records.framed(b"\xff\xff"), Code.INVALID_ARGUMENT, "Failed to parse warmup record"),
        (records.framed(session_log()), Code.UNIMPLEMENTED, "Unsupported log_type for warmup: 5"),
        (records.framed(b""), Code.UNIMPLEMENTED, "Unsupported log_type for warmup: 0"),
        (records.framed(predict_log("nope")), Code.FAILED_PRECONDITION, 'signature key "nope" not found'),
        (records.framed(regress_log()), Code.INVALID_ARGUMENT, "No regression inputs found"),
        (records.framed(predict_log(width=0)), Code.INVALID_ARGUMENT, "a picture of 0 x 32 pixels"),
        (
            records.framed(predict_log()) * (LIMIT + 1),
            Code.INVALID_ARGUMENT,
            f"Number of warmup records exceeds the maximum ({LIMIT}) at",
        ),
    ],
    ids=[
        "no records",
        "cut off",
        "no log",
        "of a session",
        "empty",
        "signature that is not",
        "regression without inputs",
        "picture without pixels",
        "too many",
    ],
)
def test_a_file_that_cannot_be_replayed_fails_the_load(
    version: Path, content: bytes, code: Code, message: str
) -> None:
    (version / FILE).parent.mkdir()
    (version / FILE).write_bytes(content)
    with pytest.raises(ServingError) as caught:
        warmed(load)(version)
    assert caught.value.code == code
    assert message in caught.value.message
