"""A server process on an ONNX directory, asked by our client, the stock stub and curl."""

import base64
import http.client
import json
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import onnxruntime
import pytest

import serving
from serving import Client, Endpoint, ServingError, runtimes
from serving.errors import Code
from serving.faces import rest_face
from serving.faces.rest_face import RestOptions
from serving.models.lifecycle import Models
from serving.models.service import PredictionService
from serving.wire.protos import Example, PredictRequest, PredictResponse
from serving.wire.tensors import to_proto
from zoo.errors import DataError
from zoo.preprocessing import Preprocessing, evaluate, read_image

PREPROCESSING = Preprocessing((32, 48))
PREDICT = "/tensorflow.serving.PredictionService/Predict"
Curl = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="session")
def expected(colours: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities of uint8 or float pictures at the input size, by ONNX Runtime in this process."""
    session = onnxruntime.InferenceSession(colours / "3" / "model.onnx")
    return lambda images: session.run(["probabilities"], {"images": images.astype(np.float32)})[0]


# --- right answers --------------------------------------------------------------------------------------


def test_pictures_are_classified_as_in_process(
    client: Client, photos: list[Path], expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    encoded = np.array([photo.read_bytes() for photo in photos], object)
    reply = client.predict("colours", {"image_bytes": encoded})
    pixels = np.stack([evaluate(PREPROCESSING, read_image(photo)) for photo in photos])
    np.testing.assert_allclose(reply["probabilities"], expected(pixels), atol=1e-6)
    order = np.argsort(-reply["probabilities"], axis=-1)[:, :5]
    np.testing.assert_array_equal(reply["scores"], np.take_along_axis(reply["probabilities"], order, -1))
    assert reply["classes"].shape == (2, 5)
    assert client.classify("colours", photos[0], top=1)[0][0] == reply["classes"][0, 0].decode()


def test_classify_takes_paths_bytes_arrays_and_lists(
    client: Client, photos: list[Path], png: Callable[..., bytes]
) -> None:
    red = png((255, 0, 0))
    assert client.classify("colours", red)[0][0] == "red"
    assert [scores[0][0] for scores in client.classify("colours", [red, png((0, 0, 255)), photos[0]])] == [
        "red",
        "blue",
        "light",
    ]
    black = np.zeros((40, 30, 3), np.uint8)
    assert client.classify("colours", black, top=2)[0][0] == "dark"
    mixed = client.classify("colours", [black, red, np.full((8, 9, 3), 255.0, np.float32)], top=1)
    assert [[label for label, _ in row] for row in mixed] == [["dark"], ["red"], ["light"]]
    assert client.classify("colours", []) == []
    assert len(client.classify("colours", np.stack([black, black]))) == 2
    scores = [score for _, score in client.classify("colours", red)]
    assert scores == sorted(scores, reverse=True)


def test_pixels_of_any_size_go_through_the_evaluation_transform(
    client: Client, photos: list[Path], expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    image = read_image(photos[1])
    at_size = evaluate(PREPROCESSING, image)

    def ask(images: np.ndarray) -> np.ndarray:
        reply = client.predict("colours", {"images": images}, signature="predict_images")
        return reply["probabilities"]

    for images in (image[None], image[None].astype(np.float32), image[None] + np.float32(0.3), at_size[None]):
        np.testing.assert_allclose(ask(images), expected(at_size[None]), atol=1e-6)
    exact = at_size[None] + np.float32(0.25)
    np.testing.assert_allclose(ask(exact), expected(exact), atol=1e-6)


def test_features_and_the_classify_signature(client: Client, png: Callable[..., bytes]) -> None:
    features = client.embed("colours", np.full((32, 48, 3), (1, 2, 3), np.uint8))
    np.testing.assert_allclose(features, [1, 2, 3])
    assert client.embed("colours", [png((9, 9, 9)), png((8, 8, 8))]).shape == (2, 3)
    example = Example()
    example.features.feature["image/encoded"].bytes_list.value.append(png((0, 255, 0)))
    reply = client.predict("colours", {"inputs": [example.SerializeToString()]}, signature="classify")
    assert sorted(reply) == ["classes", "scores"]
    assert reply["classes"][0, 0] == b"green"


def test_an_onnx_file_without_a_card_is_served_by_its_own_names(client: Client) -> None:
    reply = client.predict("add", {"a": [[1.6, 2]], "b": [[3.0, 4]], "text": ["é"]})
    np.testing.assert_allclose(reply["total"], [[4.6, 6]])
    assert reply["rounded"].dtype == np.int64
    assert reply["text_bytes"].tolist() == ["é".encode()]
    assert sorted(
        client.predict("add", {"a": [[1, 2.0]], "b": [[3, 4.0]], "text": ["x"]}, outputs=["total"])
    ) == ["total"]


def test_the_unmodified_stub_gets_right_answers(
    endpoint: Endpoint, client: Client, photos: list[Path]
) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    with grpc.insecure_channel(endpoint.grpc_address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        asked = predict_pb2.PredictRequest()
        asked.model_spec.name = "colours"
        asked.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([photos[1].read_bytes()]))
        reply = stub.Predict(asked)
        spec, outputs = reply.model_spec, reply.outputs
        assert (spec.name, spec.version.value, spec.signature_name) == ("colours", 3, "serving_default")
        assert sorted(outputs) == ["classes", "probabilities", "scores"]
        best = client.classify("colours", photos[1])[0][0]
        assert tf.make_ndarray(outputs["classes"])[0][0].decode() == best
        assert len(outputs["probabilities"].float_val) == 6
        assert len(outputs["scores"].tensor_content) == 0
        about = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        about.model_spec.name = "colours"
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert stub.GetModelMetadata(about).metadata["signature_def"].Unpack(signatures)
        assert sorted(signatures.signature_def) == [
            "classify",
            "features",
            "predict_images",
            "serving_default",
        ]
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "colours"
        models: Any = model_service_pb2_grpc.ModelServiceStub(channel)
        assert models.GetModelStatus(status).model_version_status[0].state == 30
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(classification_pb2.ClassificationRequest())
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "Missing ModelSpec"


def test_metadata_and_status(client: Client, curl: Curl) -> None:
    signature = client.metadata("colours").signature_def["predict_images"]
    assert [dim.size for dim in signature.inputs["images"].tensor_shape.dim] == [-1, -1, -1, 3]
    assert client.status("colours") == {3: "AVAILABLE"}
    assert client.status("colours", version=3) == {3: "AVAILABLE"}
    status, reply = curl("/v1/models/colours")
    assert status == 200
    assert reply == {
        "model_version_status": [
            {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    status, reply = curl("/v1/models/colours/versions/3/metadata")
    assert status == 200
    assert reply["model_spec"] == {"name": "colours", "signature_name": "", "version": "3"}
    definition = reply["metadata"]["signature_def"]["signature_def"]["features"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["images"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": size, "name": ""} for size in ("-1", "-1", "-1", "3")],
            "unknown_rank": False,
        },
        "name": "images:0",
    }


def test_rest_predicts_rows_and_columns(curl: Curl, client: Client, photos: list[Path]) -> None:
    encoded = {"b64": base64.b64encode(photos[0].read_bytes()).decode()}
    best = client.classify("colours", photos[0])
    for body in ({"instances": [encoded, encoded]}, {"instances": [{"image_bytes": encoded}] * 2}):
        status, reply = curl("/v1/models/colours:predict", body)
        assert status == 200
        assert len(reply["predictions"]) == 2
        assert reply["predictions"][0]["classes"] == [label for label, _ in best]
        assert reply["predictions"][0]["scores"] == pytest.approx([score for _, score in best])
    status, reply = curl(
        "/v1/models/colours/versions/3:predict?verbose=1", {"inputs": {"image_bytes": [encoded]}}
    )
    assert status == 200
    assert reply["outputs"]["classes"][0][0] == best[0][0]
    pixels = np.zeros((1, 4, 5, 3), int).tolist()
    status, reply = curl("/v1/models/colours:predict", {"signature_name": "features", "instances": pixels})
    assert (status, reply) == (200, {"predictions": [[0.0, 0.0, 0.0]]})


def test_rest_reads_a_gzipped_body(curl: Curl, endpoint: Endpoint, tmp_path: Path) -> None:
    import gzip
    import subprocess

    file = tmp_path / "body.gz"
    file.write_bytes(gzip.compress(json.dumps({"inputs": [], "signature_name": "nope"}).encode()))
    url = f"{endpoint.rest_url}/v1/models/colours:predict"
    done = subprocess.run(
        ["curl", "-s", "-H", "Content-Encoding: gzip", "--data-binary", f"@{file}", url],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["error"] == 'Serving signature name: "nope" not found in signature def'


def test_not_a_number_travels_both_ways(curl: Curl) -> None:
    body = '{"inputs": {"a": [[NaN, Infinity]], "b": [[1, 1]], "text": ["x"]}}'
    status, reply = curl("/v1/models/add:predict", body)
    assert status == 200
    assert np.isnan(reply["outputs"]["total"][0][0])
    assert reply["outputs"]["total"][0][1] == float("inf")


def test_an_empty_batch_is_answered_empty(client: Client) -> None:
    reply = client.predict("colours", {"image_bytes": np.zeros(0, object)})
    assert reply["probabilities"].shape == (0, 6)
    assert reply["classes"].shape == (0, 5)


# --- bad input ------------------------------------------------------------------------------------------

ONE = np.zeros((1, 32, 48, 3), np.float32)
BAD = {
    "model": (
        {"model": "nope", "inputs": {"images": ONE}},
        Code.NOT_FOUND,
        "Servable not found for request: Latest(nope)",
    ),
    "version": (
        {"inputs": {"images": ONE}, "version": 9},
        Code.NOT_FOUND,
        "Servable not found for request: Specific(colours, 9)",
    ),
    "no name": ({"model": "", "inputs": {}}, Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    "signature": (
        {"inputs": {"images": ONE}, "signature": "nope"},
        Code.FAILED_PRECONDITION,
        'Serving signature key "nope" not found.',
    ),
    "missing input": (
        {"inputs": {}},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({images}). Sent extra: {}. "
        "Missing but required: {images}.",
    ),
    "input name": (
        {"inputs": {"pictures": ONE}},
        Code.INVALID_ARGUMENT,
        "Signature input alias: images(feed name: images:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {images}, or default input alias set: {}",
    ),
    "dtype": (
        {"inputs": {"images": np.zeros((1, 32, 48, 3), np.int64)}},
        Code.INVALID_ARGUMENT,
        'Input "images" must be float [?, ?, ?, 3], got int64 [1, 32, 48, 3]',
    ),
    "rank": (
        {"inputs": {"images": np.zeros((32, 48, 3), np.float32)}},
        Code.INVALID_ARGUMENT,
        'Input "images" must be float [?, ?, ?, 3], got float [32, 48, 3]',
    ),
    "channels": (
        {"inputs": {"images": np.zeros((1, 32, 48, 4), np.uint8)}},
        Code.INVALID_ARGUMENT,
        'Input "images" must be float [?, ?, ?, 3], got float [1, 32, 48, 4]',
    ),
    "no pixels": (
        {"inputs": {"images": np.zeros((1, 0, 5, 3), np.float32)}},
        Code.INVALID_ARGUMENT,
        "images[0]: a picture of 5 x 0 pixels",
    ),
    "a thread": (
        {"inputs": {"images": np.zeros((1, 1, 100000, 3), np.uint8)}},
        Code.INVALID_ARGUMENT,
        "images[0]: a picture of 100000 x 1 pixels is too thin",
    ),
    "no picture": (
        {"inputs": {"image_bytes": [b"no picture"]}, "signature": ""},
        Code.INVALID_ARGUMENT,
        "image_bytes[0]: picture cannot be decoded",
    ),
    "no example": (
        {"inputs": {"inputs": [b"\xff"]}, "signature": "classify"},
        Code.INVALID_ARGUMENT,
        "inputs[0]: not a serialised tf.Example",
    ),
    "empty example": (
        {"inputs": {"inputs": [b""]}, "signature": "classify"},
        Code.INVALID_ARGUMENT,
        'inputs[0]: feature "image/encoded" must hold one encoded picture, it holds 0',
    ),
    "output name": (
        {"inputs": {"images": ONE}, "outputs": ["nope"]},
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: nope Outputs expected to be in the set "
        "{classes,probabilities,scores}.",
    ),
    "output twice": (
        {"inputs": {"images": ONE}, "outputs": ["scores", "scores"]},
        Code.INVALID_ARGUMENT,
        "duplicate output tensor alias: scores",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_get_the_code_and_name_the_field(name: str, client: Client) -> None:
    asked, code, message = BAD[name]
    with pytest.raises(ServingError) as caught:
        client.predict(**{"model": "colours", "signature": "predict_images", **asked})
    assert caught.value.code == code
    assert caught.value.message.startswith(message)


def test_one_bad_picture_of_many_is_named(client: Client, png: Callable[..., bytes]) -> None:
    good = png((1, 2, 3))
    with pytest.raises(ServingError, match=r"image_bytes\[2\]: picture cannot be decoded"):
        client.classify("colours", [good, good, good[:60]])
    assert len(client.classify("colours", [good, good])) == 2


def test_a_picture_that_unpacks_to_too_many_pixels_is_refused_unread(
    client: Client, png: Callable[..., bytes]
) -> None:
    head = b"IHDR" + struct.pack(">II", 60_000, 60_000) + png((0, 0, 0))[24:29]
    bomb = png((0, 0, 0))[:12] + head + struct.pack(">I", zlib.crc32(head)) + png((0, 0, 0))[33:]
    with pytest.raises(ServingError, match=r"image_bytes\[0\]: picture .*pixels"):
        client.classify("colours", bomb)


def test_shapes_of_a_plain_onnx_file_are_checked_too(client: Client) -> None:
    with pytest.raises(ServingError, match=r'Input "b" must be float \[\?, 2\], got float \[1, 3\]'):
        client.predict("add", {"a": [[1.0, 2]], "b": [[1.0, 2, 3]], "text": ["x"]})
    with pytest.raises(ServingError, match='Input "text" is not UTF-8'):
        client.predict("add", {"a": [[1.0, 2]], "b": [[1.0, 2]], "text": [b"\xff"]})
    with pytest.raises(ServingError, match=r'The model failed on .*"?a"? \[2, 2\]'):
        client.predict("add", {"a": np.ones((2, 2), "f4"), "b": np.ones((3, 2), "f4"), "text": ["x"]})


def test_metadata_and_status_of_what_is_not_there(client: Client) -> None:
    with pytest.raises(ServingError, match=r"NOT_FOUND: Servable not found for request: Latest\(nope\)"):
        client.metadata("nope")
    with pytest.raises(ServingError, match="NOT_FOUND: Could not find any versions of model nope"):
        client.status("nope")
    with pytest.raises(ServingError, match="NOT_FOUND: Could not find version 9 of model colours"):
        client.status("colours", version=9)


def test_a_picture_file_that_is_not_there(client: Client) -> None:
    with pytest.raises(DataError, match=r'"nope.jpg" cannot be read: No such file'):
        client.classify("colours", "nope.jpg")


def raw_predict(endpoint: Endpoint, data: bytes) -> Any:
    with grpc.insecure_channel(endpoint.grpc_address) as channel:
        return PredictResponse.FromString(channel.unary_unary(PREDICT)(data, timeout=30))


def test_requests_that_only_a_raw_client_can_send(endpoint: Endpoint) -> None:
    def details(request: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            raw_predict(endpoint, request.SerializeToString())
        return caught.value.code().name, caught.value.details()

    assert details(PredictRequest()) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request = PredictRequest()
    request.model_spec.name = "colours"
    request.model_spec.version_label = "stable"
    assert details(request) == ("INVALID_ARGUMENT", "Unrecognized servable version label: stable")
    request.model_spec.ClearField("version_label")
    request.inputs["image_bytes"].CopyFrom(to_proto(np.array([b""], object)))
    request.inputs["image_bytes"].tensor_shape.dim[0].size = -1
    assert details(request) == ("INVALID_ARGUMENT", "tensor parsing error: image_bytes")
    request.model_spec.signature_name = "s" * 3000
    code, message = details(request)
    assert code == "FAILED_PRECONDITION"
    assert len(message) == 1024 + len("...TRUNCATED")
    assert message.endswith("...TRUNCATED")


def test_a_request_above_grpcs_default_limit_is_taken(client: Client) -> None:
    reply = client.predict(
        "colours", {"images": np.zeros((40, 200, 200, 3), np.float32)}, signature="predict_images"
    )
    assert reply["probabilities"].shape == (40, 6)


MALFORMED = [
    ("POST", "/v1/models/colours:nothing", 400, "Malformed request: POST /v1/models/colours:nothing"),
    ("POST", "/v1/models/colours:PREDICT", 400, "Malformed request: POST /v1/models/colours:PREDICT"),
    ("GET", "/v1/models/colours/", 400, "Malformed request: GET /v1/models/colours/"),
    ("PUT", "/v1/models/colours", 400, "Malformed request: PUT /v1/models/colours"),
    ("GET", "/v1/models/colours/versions/x", 400, "Malformed request: GET /v1/models/colours/versions/x"),
    (
        "GET",
        "/v1/models/colours/versions/" + "9" * 30,
        400,
        f"Failed to convert version: {'9' * 30} to numeric.",
    ),
    ("GET", "/v1/models/colours/versions/9", 404, "Could not find version 9 of model colours"),
    ("GET", "/v1/models/nope", 404, "Could not find any versions of model nope"),
    ("GET", "/v1/models/nope/metadata", 404, "Servable not found for request: Latest(nope)"),
    ("POST", "/v1/models/colours:classify", 400, "JSON Parse error: The document is empty"),
]


@pytest.mark.parametrize(("method", "path", "status", "message"), MALFORMED)
def test_rest_paths_that_lead_nowhere(curl: Curl, method: str, path: str, status: int, message: str) -> None:
    assert curl(path, None, "-X", method) == (status, {"error": message})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("", 400, "JSON Parse error: The document is empty"),
        ("[", 400, "JSON Parse error: Invalid value. at offset: 1"),
        ('{"signature_name": 1}', 400, "'signature_name' key must be a string value."),
        ('{"signature_name": "nope"}', 400, 'Serving signature name: "nope" not found in signature def'),
        ('{"instances": ["bm8="]}', 400, "image_bytes[0]: picture cannot be decoded"),
        ('{"instances": [{"b64": "?"}]}', 400, "Unable to base64 decode"),
        (
            '{"instances": [[1, 2], [1]], "signature_name": "features"}',
            400,
            "Expecting tensor size: 2 but got: 1",
        ),
        (
            '{"instances": [1], "signature_name": "features"}',
            400,
            'Input "images" must be float [?, ?, ?, 3]',
        ),
    ],
)
def test_rest_bodies_that_are_wrong(curl: Curl, body: str, status: int, message: str) -> None:
    code, reply = curl("/v1/models/colours:predict", body)
    assert code == status
    assert message in reply["error"]


def test_rest_model_version_and_label_that_are_not_there(curl: Curl) -> None:
    status, reply = curl("/v1/models/colours/versions/9:predict", {"instances": [1]})
    assert (status, reply["error"]) == (404, "Servable not found for request: Specific(colours, 9)")
    status, reply = curl("/v1/models/colours/labels/stable:predict", {"instances": [1]})
    assert (status, reply["error"]) == (400, "Unrecognized servable version label: stable")
    status, page = curl("/elsewhere")
    assert status == 404
    assert page.startswith("<html>")


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(endpoint: Endpoint, curl: Curl) -> None:
    host, port = endpoint.rest_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/models/colours:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        )
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert curl("/v1/models/colours")[0] == 200
    assert "Traceback" not in endpoint.log.read_text()


# --- weight ---------------------------------------------------------------------------------------------

CLIENT_ALONE = """
import sys
import serving
light = set(sys.modules)
with serving.Client(sys.argv[1]) as client:
    client.classify("colours", sys.argv[2])
print([m for m in ("tensorflow", "keras", "onnxruntime", "numpy", "grpc") if m in light])
print([m for m in ("tensorflow", "keras", "onnxruntime") if m in sys.modules])
"""


def test_neither_server_nor_client_loads_tensorflow(
    endpoint: Endpoint, photos: list[Path], run_python: Callable[..., str]
) -> None:
    maps = Path(f"/proc/{endpoint.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "tensorflow" not in maps
    assert run_python(CLIENT_ALONE, endpoint.grpc_address, str(photos[0])).split("\n")[:2] == ["[]", "[]"]


def test_a_card_that_contradicts_the_model_is_refused(
    tmp_path: Path, publish: Callable[..., None], colour_model: Callable[..., onnx.ModelProto]
) -> None:
    publish(tmp_path / "m", 1, colour_model(), labels=("one", "two"))
    with pytest.raises(serving.DeployError, match=r"card.json names 2 labels, model.onnx has 6 classes"):
        serving.deploy(tmp_path / "m")


def test_a_connection_of_rest_sends_what_it_has_at_once() -> None:
    """Else a reply's body waits for the client to acknowledge its head."""
    service = PredictionService(Models([], runtimes.load))
    server = rest_face.start(service, RestOptions())
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    try:
        connection.request("GET", "/v1/models/none")
        connection.getresponse().read()
        (held,) = server.server.server_state.connections
        accepted = held.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        connection.close()
        server.stop()
