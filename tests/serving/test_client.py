"""The client's own manners: retries, deadlines, and its asynchronous twin."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving import AsyncClient, Client, Endpoint, ServingError
from serving.errors import Code
from serving.protos import PREDICTION_SERVICE, PredictResponse
from serving.tensors import to_proto

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
                twin.features("colours", BLACK),
                twin.features("colours", [red, red]),
                twin.predict("add", {"a": [[1, 2.0]], "b": [[3, 4.0]], "text": ["x"]}, outputs=["total"]),
                twin.classify("colours", []),
            )

    photo, mixed, stacked, feature, features, total, nothing = asyncio.run(ask())
    assert photo == client.classify("colours", photos[0])
    assert [row[0][0] for row in mixed] == ["dark", "red"]
    assert stacked == client.classify("colours", np.stack([BLACK, BLACK]))
    np.testing.assert_array_equal(feature, client.features("colours", BLACK))
    np.testing.assert_array_equal(features, client.features("colours", [red, red]))
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
