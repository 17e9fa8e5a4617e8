"""SavedModels, of any signature, by the TensorFlow runtime: in a server process of its own, asked by a
light client.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serving
from serving import Client, Endpoint, ServingError
from serving.errors import Code


def save(folder: Path) -> None:
    """Signatures of numbers, of pictures and of text; one has a default, one an output of float16."""
    import tensorflow as tf

    spec, two = tf.TensorSpec, tf.constant(2.0)

    class Model(tf.Module):
        def __init__(self) -> None:
            self.half = tf.Variable(0.5)

        @tf.function(input_signature=[spec([None, 2], tf.float32, "x"), spec([], tf.float32, "bias")])
        def scale(self, x: Any, bias: Any = two) -> dict[str, Any]:
            return {"y": x * self.half + bias, "sum": tf.reduce_sum(x)}

        @tf.function(input_signature=[spec([None, None, None, 3], tf.float32, "images")])
        def mean(self, images: Any) -> dict[str, Any]:
            return {"mean": tf.reduce_mean(images, axis=[1, 2])}

        @tf.function(input_signature=[spec([None], tf.string, "words"), spec([], tf.string, "mark")])
        def shout(self, words: Any, mark: Any) -> dict[str, Any]:
            lengths = tf.strings.length(words)
            return {"loud": tf.strings.upper(words) + mark, "half": tf.cast(lengths, tf.float16)}

    model = Model()
    signatures = {"serving_default": model.scale, "mean": model.mean, "shout": model.shout}
    tf.saved_model.save(model, str(folder), signatures)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tf") / "maths"
    save(base / "00000007")
    return base


@pytest.fixture(scope="module")
def server(saved: Path) -> Iterator[Endpoint]:
    with serving.deploy(saved) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def maths(server: Endpoint) -> Iterator[Client]:
    with Client(server.grpc_address) as client:
        yield client


def test_a_saved_model_is_served_by_tensorflow(server: Endpoint, maths: Client) -> None:
    assert maths.status("maths") == {7: "AVAILABLE"}
    assert "tensorflow" in Path(f"/proc/{server.process.pid}/maps").read_text()
    reply = maths.predict("maths", {"x": [[2.0, 4]], "bias": 1.0}, version=7)
    assert {alias: array.tolist() for alias, array in reply.items()} == {"y": [[2.0, 3.0]], "sum": 6.0}
    assert sorted(maths.predict("maths", {"x": [[2.0, 4]], "bias": 1.0}, outputs=["sum"])) == ["sum"]


def test_an_input_with_a_default_may_be_left_out(maths: Client) -> None:
    signature = maths.metadata("maths").signature_def["serving_default"]
    assert signature.defaults["bias"].float_val[0] == 2.0
    assert maths.predict("maths", {"x": [[2.0, 4]]})["y"].tolist() == [[3.0, 4.0]]


def test_metadata_is_what_the_file_says(maths: Client) -> None:
    signatures = maths.metadata("maths").signature_def
    assert set(signatures) >= {"serving_default", "mean", "shout", "__saved_model_init_op"}
    assert signatures["serving_default"].inputs["x"].name == "serving_default_x:0"
    assert signatures["mean"].method_name == "tensorflow/serving/predict"
    with pytest.raises(
        ServingError, match='INVALID_ARGUMENT: Signature "__saved_model_init_op" cannot be called'
    ):
        maths.predict("maths", {}, signature="__saved_model_init_op")


def test_strings_and_halves_and_uint8_pictures(maths: Client) -> None:
    reply = maths.predict("maths", {"words": ["a", "bc\x00"], "mark": "!"}, signature="shout")
    assert reply["loud"].tolist() == [b"A!", b"BC\x00!"]
    assert reply["half"].dtype == np.float16
    images = np.full((2, 3, 4, 3), 7, np.uint8)
    assert maths.predict("maths", {"images": images}, signature="mean")["mean"].tolist() == [[7, 7, 7]] * 2


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("", {"x": np.zeros((1, 2), np.int64)}, 'Input "x" must be float [?, 2], got int64 [1, 2]'),
        (
            "mean",
            {"images": np.zeros((2, 3), np.float32)},
            '(expected "images" float [?, ?, ?, 3]; given "images" [2, 3])',
        ),
        ("", {"bias": 1.0}, "Signature input alias: x(feed name: serving_default_x:0) not found in request"),
    ],
)
def test_bad_input_names_the_field(
    maths: Client, signature: str, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ServingError) as caught:
        maths.predict("maths", inputs, signature=signature)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert message in caught.value.message


def test_rest_on_a_saved_model(server: Endpoint, run_curl: Callable[..., tuple[int, Any]]) -> None:
    url = f"{server.rest_url}/v1/models/maths:predict"
    body = {"signature_name": "shout", "inputs": {"words": ["é"], "mark": {"b64": "IQ=="}}}
    status, reply = run_curl(url, body)
    assert (status, reply["error"]) == (400, "Failed to write JSON value for tensor type: half")
    status, reply = run_curl(url, {"inputs": {"x": [[2, 4]], "bias": 1}})
    assert (status, reply) == (200, {"outputs": {"y": [[2.0, 3.0]], "sum": 6.0}})
    status, reply = run_curl(url, {"instances": [{"x": [2, 4], "bias": 1}]})
    assert (status, reply["error"]) == (400, "Tensor name: sum has no shape information ")
    status, reply = run_curl(f"{server.rest_url}/v1/models/maths/metadata")
    definition = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["defaults"]["bias"]["float_val"] == [2.0]


def test_a_runtime_that_the_directory_lacks(saved: Path, colours: Path) -> None:
    with pytest.raises(
        serving.DeployError, match=r"holds saved_model.pb; onnx needs one of model.onnx, model_int8.onnx"
    ):
        serving.deploy(saved, runtime="onnx")
    with pytest.raises(
        serving.DeployError, match=r"holds model.onnx; tensorflow needs one of saved_model.pb"
    ):
        serving.deploy(colours, runtime="tensorflow")
