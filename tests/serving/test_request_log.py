"""Requests that were logged, read back by TensorFlow and as a warm-up file."""

import contextlib
import json
import logging
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest

from serving import Client, ServingError
from serving.errors import Code
from serving.models import config
from serving.models.batching import scheduled
from serving.models.config import parse
from serving.models.service import Answer, ModelSpec, Served
from serving.models.versions import ModelConfig
from serving.models.warmup import FILE, warmed
from serving.runtimes import load
from serving.watching import metrics
from serving.watching.request_log import RequestLog
from serving.wire import records
from serving.wire.protos import PREDICTION_SERVICE, Example, PredictionLog, message, methods

BLACK = np.zeros((32, 48, 3), np.uint8)


@pytest.fixture
def base(tmp_path: Path, publish: Callable[..., None], colour_model: Callable[..., onnx.ModelProto]) -> Path:
    publish(tmp_path / "m", 1, colour_model())
    return tmp_path / "m"


def logged(base: Path, prefix: Path, rate: float) -> ModelConfig:
    """The model, its requests logged, as a config file asks for it."""
    text = f"""model_config_list {{ config {{
        name: "m" base_path: "{base}" model_platform: "tensorflow"
        logging_config {{
            log_collector_config {{ filename_prefix: "{prefix}" }}
            sampling_config {{ sampling_rate: {rate} }}
        }}
    }} }}"""
    return config.models(parse(text, "ModelServerConfig"))[0]


def classify_and_regress(address: str, png: bytes) -> None:
    """A Classify over gRPC that is answered, and a Regress that is refused."""
    example = Example()
    example.features.feature["image/encoded"].bytes_list.value.append(png)
    with grpc.insecure_channel(address) as channel:
        for name, kind in {"Classify": "ClassificationRequest", "Regress": "RegressionRequest"}.items():
            request = message(f"tensorflow.serving.{kind}")()
            request.model_spec.name = "m"
            request.model_spec.signature_name = "classify"
            request.input.example_list.examples.append(example)
            call = channel.unary_unary(methods(PREDICTION_SERVICE)[name].path)
            refused = pytest.raises(grpc.RpcError) if name == "Regress" else contextlib.nullcontext()
            with refused:
                call(request.SerializeToString(), timeout=60)


def read_by_tensorflow(file: Path) -> list[tuple[str, str, int]]:
    """Of each record: its kind, its model and the number of outputs."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    return [
        (log.WhichOneof("log_type"), log.log_metadata.model_spec.name, len(log.predict_log.response.outputs))
        for log in logs
    ]


def test_a_logged_file_is_a_warm_up_file(
    base: Path,
    tmp_path: Path,
    in_process: Callable[..., Any],
    png: Callable[..., bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with in_process(configs=[logged(base, tmp_path / "requests", 1)]) as server:
        with Client(server.grpc_address) as client:
            client.classify("m", BLACK)
            client.classify("m", [png((255, 0, 0))])
            with pytest.raises(ServingError):
                client.classify("m", b"no picture")
        body = json.dumps({"signature_name": "features", "instances": BLACK[None].tolist()}).encode()
        urllib.request.urlopen(f"{server.rest_url}/v1/models/m:predict", body).read()
        classify_and_regress(server.grpc_address, png((0, 255, 0)))
    (file,) = tmp_path.glob("requests-*")
    entries = [PredictionLog.FromString(record) for record in records.read(file)]
    assert [entry.WhichOneof("log_type") for entry in entries] == ["predict_log"] * 3 + ["classify_log"]
    asked = [entry.predict_log.request for entry in entries[:3]]
    assert [one.model_spec.signature_name for one in asked] == ["predict_images", "", "features"]
    assert list(asked[0].output_filter) == ["classes", "scores"]
    assert entries[0].predict_log.response.outputs["classes"].string_val[0] == b"dark"
    assert entries[3].classify_log.response.result.classifications[0].classes[0].label == "green"
    assert read_by_tensorflow(file) == [
        ("predict_log", "m", 2),
        ("predict_log", "m", 2),
        ("predict_log", "m", 1),
        ("classify_log", "m", 0),
    ]
    (base / "1" / FILE).parent.mkdir()
    file.rename(base / "1" / FILE)
    with caplog.at_level(logging.INFO, "serving"):
        runtime = scheduled(warmed(load))(base / "1")
    assert "Number of warmup records read: 4." in caplog.text
    page = metrics.page([]).decode()
    labels = f'model_path="{base / "1"}",status="OK"'
    assert f":tensorflow:serving:model_warmup_records_read{{{labels}}} 4.0" in page
    assert f":tensorflow:serving:model_warmup_latency_count{{{labels}}} 1.0" in page
    assert runtime.run("features", {"images": BLACK[None]}, ["features"])["features"].shape == (1, 3)


def served(number: int) -> Served:
    arrays = {"x": np.array([number], np.float32)}
    return Served("predict", ModelSpec("m"), arrays, Answer(1, "serving_default", arrays))


def config_of(prefix: Path, rate: float) -> Any:
    return logged(Path("/nowhere"), prefix, rate).logging


def test_the_sample_is_as_large_as_was_asked(tmp_path: Path) -> None:
    half, none = config_of(tmp_path / "half", 0.5), config_of(tmp_path / "none", 0)
    configs = iter([half, none, None] * 200)
    log = RequestLog(lambda name: next(configs))
    for number in range(600):
        log.hear(served(number))
    log.close()
    assert not list(tmp_path.glob("none*"))
    count = sum(1 for file in tmp_path.glob("half-*") for _ in records.read(file))
    assert 60 < count < 140


def test_a_new_file_begins_before_one_is_too_long_for_a_warm_up(tmp_path: Path) -> None:
    log = RequestLog(lambda name: None)
    for _ in range(1003):
        log._write(str(tmp_path / "r"), b"record")
    log.close()
    files = sorted(tmp_path.glob("r-*"))
    assert [len(list(records.read(file))) for file in files] == [1000, 3]


def test_a_log_that_cannot_be_written_says_so_once_and_fails_no_request(
    base: Path, tmp_path: Path, in_process: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    configs = [logged(base, tmp_path / "no folder" / "requests", 1)]
    with in_process(configs=configs) as server, Client(server.grpc_address) as client:
        for _ in range(3):
            assert client.classify("m", BLACK)[0][0] == "dark"
    said = [line for line in caplog.messages if line.startswith("Requests cannot be logged to")]
    assert len(said) == 1
    assert "No such file or directory" in said[0]


@pytest.mark.parametrize(
    ("rate", "prefix", "text"),
    [
        (1, "", "logging_config of model m needs a log_collector_config.filename_prefix"),
        (1.5, "/x", "logging_config of model m: sampling_rate must be in 0..1; was 1.5"),
    ],
)
def test_a_logging_config_that_cannot_work(rate: float, prefix: str, text: str) -> None:
    with pytest.raises(ServingError) as caught:
        logged(Path("/models/m"), Path(prefix) if prefix else prefix, rate)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)


def test_damaged_records_are_told_from_whole_ones(tmp_path: Path) -> None:
    whole = records.framed(b"one") + records.framed(b"two")
    (tmp_path / "f").write_bytes(whole)
    assert list(records.read(tmp_path / "f")) == [b"one", b"two"]
    for at, place in ((3, 0), (13, 0), (25, 19)):
        (tmp_path / "f").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ServingError, match=f"DATA_LOSS: .* record at {place} in "):
            list(records.read(tmp_path / "f"))
    (tmp_path / "f").write_bytes(whole[:-1])
    with pytest.raises(ServingError, match="DATA_LOSS: truncated or damaged record at 19 in "):
        list(records.read(tmp_path / "f"))
