"""The client's own manners: retries, deadlines, and its asynchronous twin."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from serving import AsyncClient, Client, Endpoint, ServingError
from serving.errors import Code
from serving.fetching import fetch
from serving.wire.protos import PREDICTION_SERVICE, PredictResponse
from serving.wire.tensors import to_proto
from zoo.errors import DataError

BLACK = np.zeros((32, 48, 3), np.uint8)


@contextmanager
def moody_server(answer: Callable[[grpc.ServicerContext], None]) -> Iterator[str]:
    """The address of a Predict that answers x = 1, after `answer` had its way."""

    def predict(request: bytes, context: grpc.ServicerContext) -> bytes:
        answer(context)
        response = PredictResponse()
        response.outputs["x"].CopyFrom(to_proto(np.ones(1, np.float32)))
        return response.SerializeToString()

    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(predict)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(PREDICTION_SERVICE, {"Predict": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


class Refusing:
    """Refuses the first calls with UNAVAILABLE; counts them all."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.calls = 0

    def __call__(self, context: grpc.ServicerContext) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")


def test_a_busy_server_is_asked_again_after_a_while() -> None:
    refusing = Refusing(2)
    with moody_server(refusing) as address, Client(address) as client:
        assert client.predict("m", {})["x"] == 1
    assert refusing.calls == 3


def test_a_server_that_stays_busy_says_so_itself() -> None:
    refusing = Refusing(99)
    with moody_server(refusing) as address, Client(address, attempts=2) as client:
        with pytest.raises(ServingError) as caught:
            client.predict("m", {})
        assert (caught.value.code, caught.value.message) == (Code.UNAVAILABLE, "busy")
    assert refusing.calls == 2


def test_one_attempt_means_no_retry() -> None:
    refusing = Refusing(1)
    with (
        moody_server(refusing) as address,
        Client(address, attempts=1) as client,
        pytest.raises(ServingError, match="UNAVAILABLE: busy"),
    ):
        client.predict("m", {})
    assert refusing.calls == 1


def test_a_call_ends_at_its_deadline() -> None:
    released = threading.Event()
    with moody_server(lambda context: assert_true(released.wait(60))) as address:
        with Client(address, timeout=0.1) as client:
            began = time.monotonic()
            with pytest.raises(ServingError) as caught:
                client.predict("m", {})
            assert caught.value.code == Code.DEADLINE_EXCEEDED
            assert time.monotonic() - began < 10
        released.set()


def assert_true(value: bool) -> None:
    assert value


def test_the_asynchronous_twin_answers_alike(
    endpoint: Endpoint, client: Client, photos: list[Path], png: Callable[..., bytes]
) -> None:
    red = png((255, 0, 0))

    async def ask() -> list[Any]:
        async with AsyncClient(endpoint.grpc_address) as twin:
            return await asyncio.gather(
                twin.classify("colours", photos[0]),
                twin.classify("colours", [BLACK, red], top=1),
                twin.classify("colours", np.stack([BLACK, BLACK])),
                twin.embed("colours", BLACK),
                twin.embed("colours", [red, red]),
                twin.predict("add", {"a": [[1, 2.0]], "b": [[3, 4.0]], "text": ["x"]}, outputs=["total"]),
                twin.classify("colours", []),
            )

    photo, mixed, stacked, feature, features, total, nothing = asyncio.run(ask())
    assert photo == client.classify("colours", photos[0])
    assert [row[0][0] for row in mixed] == ["dark", "red"]
    assert stacked == client.classify("colours", np.stack([BLACK, BLACK]))
    np.testing.assert_array_equal(feature, client.embed("colours", BLACK))
    np.testing.assert_array_equal(features, client.embed("colours", [red, red]))
    np.testing.assert_array_equal(total["total"], [[4, 6]])
    assert list(total) == ["total"]
    assert nothing == []


def test_the_asynchronous_twin_passes_errors_on(endpoint: Endpoint) -> None:
    async def ask(address: str, model: str) -> None:
        async with AsyncClient(address, attempts=1) as twin:
            await twin.predict(model, {})

    with pytest.raises(ServingError, match=r"NOT_FOUND: Servable not found for request: Latest\(nope\)"):
        asyncio.run(ask(endpoint.grpc_address, "nope"))
    with pytest.raises(ServingError, match=r"UNAVAILABLE: no server answers at 127\.0\.0\.1:1: "):
        asyncio.run(ask("127.0.0.1:1", "nope"))


def test_where_a_model_tells_what_it_takes_is_said_when_it_is_asked_for_something_else(
    client: Client,
) -> None:
    told = r'"predict_images" not found\.; client\.metadata\("add"\) lists what the model takes'
    with pytest.raises(ServingError, match=told):
        client.classify("add", BLACK)
    assert set(client.metadata("add").signature_def["serving_default"].inputs) == {"a", "b", "text"}


def test_the_rest_port_is_told_from_the_grpc_port(endpoint: Endpoint) -> None:
    address = endpoint.rest_url.removeprefix("http://")
    with Client(address, attempts=1) as client, pytest.raises(ServingError, match="is it the REST port"):
        client.status("m")


def test_probabilities_of_pictures_however_they_come(
    client: Client, endpoint: Endpoint, photos: list[Path], png: Callable[..., bytes]
) -> None:
    red = png((255, 0, 0))
    alone = client.predict("colours", photos[0])
    assert (alone.shape, alone.dtype) == ((6,), np.float32)
    together = client.predict("colours", [str(photos[0]), photos[0].read_bytes(), red, BLACK])
    assert together.shape == (4, 6)
    np.testing.assert_array_equal(together[:2], [alone, alone])
    assert together[2:].argmax(axis=-1).tolist() == [0, 3]
    np.testing.assert_array_equal(client.predict("colours", np.stack([BLACK, BLACK])), together[[3, 3]])
    opened = client.predict("colours", [Image.open(photos[0]), Image.open(photos[0])])
    np.testing.assert_allclose(opened, [alone, alone], atol=1e-6)
    np.testing.assert_array_equal(client.predict("colours", Image.open(photos[0])), opened[0])
    np.testing.assert_array_equal(client.predict("colours", BLACK.astype(np.float64)), together[3])
    np.testing.assert_array_equal(client.predict("colours", BLACK[..., 0]), together[3])
    np.testing.assert_array_equal(client.embed("colours", BLACK[..., :1]), client.embed("colours", BLACK))
    for strange in (np.zeros((8, 8, 4), np.uint8), np.zeros(3), None):
        with pytest.raises(DataError, match="a picture is an array"):
            client.classify("colours", [strange])
    scaled = np.full((8, 8, 3), 0.5, np.float32)
    with pytest.raises(
        DataError, match=r"values are in 0\.\.255, not 0\.5\.\.0\.5: give it as it was before"
    ):
        client.classify("colours", scaled)
    assert len(client.predict("colours", [])) == 0
    assert len(client.embed("colours", [])) == 0

    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(endpoint.grpc_address) as twin:
            return (
                await twin.predict("colours", [photos[0], red]),
                await twin.status("colours"),
                await twin.metadata("colours"),
            )

    probabilities, states, signatures = asyncio.run(ask())
    np.testing.assert_array_equal(probabilities, together[[0, 2]])
    assert states == {3: "AVAILABLE"} == client.status("colours")
    assert signatures == client.metadata("colours")


def test_a_long_list_is_sent_in_several_requests(client: Client, png: Callable[..., bytes]) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    rows = client.classify("colours", [png(colours[i % 3], (8, 8)) for i in range(70)], top=1)
    assert [row[0][0] for row in rows] == [("red", "green", "blue")[i % 3] for i in range(70)]


class Site(BaseHTTPRequestHandler):
    """/red.png, /large of two megabytes, /to?ADDRESS which redirects there, and nothing else."""

    red = b""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        body = {"/red.png": self.red, "/large": bytes(2 << 20)}.get(path)
        self.send_response(302 if path == "/to" else 200 if body is not None else 404)
        if path == "/to":
            self.send_header("Location", query)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments: Any) -> None:
        """Silent."""


@pytest.fixture
def site(png: Callable[..., bytes]) -> Iterator[str]:
    Site.red = png((255, 0, 0))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_are_fetched_only_when_allowed(client: Client, endpoint: Endpoint, site: str) -> None:
    for ask in (client.classify, client.predict, client.embed):
        with pytest.raises(DataError, match=r"red\.png\" is not fetched: only a client made with urls=True"):
            ask("colours", f"{site}/red.png")
    with Client(endpoint.grpc_address, urls=True) as open_client:
        assert open_client.classify("colours", f"{site}/red.png", top=1)[0][0] == "red"
        assert open_client.classify("colours", f"{site}/to?/red.png", top=1)[0][0] == "red"
        np.testing.assert_array_equal(open_client.embed("colours", f"{site}/red.png"), [255, 0, 0])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "cannot be fetched: 404"),
        ("/to?file:///etc/passwd", "file:///etc/passwd is neither http:// nor https://"),
        ("/to?ftp://127.0.0.1/x", "ftp://127.0.0.1/x is neither http:// nor https://"),
        ("/to?/to?/to?/to?/to?/to?/to?/to?", "more than 5 redirects"),
        ("/large", "is larger than 1048576 bytes"),
    ],
)
def test_what_is_not_fetched(site: str, path: str, reason: str) -> None:
    with pytest.raises(DataError, match=re.escape(reason)):
        fetch(f"{site}{path}", 30, limit=1 << 20)


def test_other_schemes_and_dead_hosts_are_not_fetched() -> None:
    with pytest.raises(DataError, match="neither http:// nor https://"):
        fetch("file:///etc/passwd", 30)
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch("http://127.0.0.1:1/x.png", 30)


def test_an_address_that_sends_too_slowly_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(DataError, match=r"cannot be fetched: .*timed out"),
    ):
        fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/x.png", 0.2)
