"""One side of a comparison, in a process of its own: callers that ask again as soon as they are answered.

    contenders.py grpc ADDRESS METHOD FILE             a gRPC server; FILE holds the request
    contenders.py connections ADDRESS METHOD FILE      the same, each caller by a connection of its own
    contenders.py http HOST:PORT PATH FILE TYPE        an HTTP server; FILE holds the body, TYPE is its own
    contenders.py tensorflow FOLDER SIGNATURE FILE     TensorFlow itself; FILE, a .npy, holds the input
    contenders.py onnx MODEL OUTPUT FILE               ONNX Runtime itself, set as the server sets it

Each line of standard input, "CALLERS SECONDS", is answered by a line of JSON: how many answers came, the
seconds that passed, this process's processor seconds, and the milliseconds of the 50th and 99th percentile.
"""

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

Call = Callable[[], Any]


def main() -> None:
    kind, *arguments = sys.argv[1:]
    caller = KINDS[kind](*arguments)
    caller()()
    print("ready", flush=True)
    for line in sys.stdin:
        callers, seconds = line.split()
        print(json.dumps(loop([caller() for _ in range(int(callers))], float(seconds))), flush=True)


def loop(calls: list[Call], seconds: float) -> dict[str, float]:
    """All calls at once, each again and again."""
    taken: list[list[float]] = [[] for _ in calls]
    began, processor = time.perf_counter(), time.process_time()
    threads = [
        threading.Thread(target=_repeat, args=(call, began + seconds, times))
        for call, times in zip(calls, taken, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = sorted(time for times in taken for time in times)
    return {
        "answers": len(every),
        "seconds": time.perf_counter() - began,
        "processor": time.process_time() - processor,
        "p50": 1e3 * every[len(every) // 2],
        "p99": 1e3 * every[int(len(every) * 0.99)],
    }


def _repeat(call: Call, end: float, times: list[float]) -> None:
    began = time.perf_counter()
    while began < end:
        call()
        done = time.perf_counter()
        times.append(done - began)
        began = done


def grpc_caller(address: str, method: str, file: str) -> Callable[[], Call]:
    """Bytes out, bytes in: the client's own cost is gRPC's alone."""
    import grpc

    request = Path(file).read_bytes()
    channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])
    ask = channel.unary_unary(method)
    return lambda: lambda: ask(request, timeout=60)


def connections_caller(address: str, method: str, file: str) -> Callable[[], Call]:
    """Channels to one address share a connection unless told otherwise."""
    import grpc

    request = Path(file).read_bytes()
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]

    def caller() -> Call:
        channel = grpc.insecure_channel(address, options=options)
        grpc.channel_ready_future(channel).result(60)
        ask = channel.unary_unary(method)
        return lambda: ask(request, timeout=60)

    return caller


def http_caller(address: str, path: str, file: str, content: str) -> Callable[[], Call]:
    """A connection for each caller, kept open."""
    body = Path(file).read_bytes()

    def caller() -> Call:
        connection = http.client.HTTPConnection(address, timeout=60)

        def call() -> None:
            connection.request("POST", path, body, {"Content-Type": content})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {answer[:300]!r}")

        return call

    return caller


def tensorflow_caller(folder: str, signature: str, file: str) -> Callable[[], Call]:
    """The signature on a tensor that is there already."""
    import numpy as np
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    run = model.signatures[signature]
    (alias,) = run.structured_input_signature[1]
    array = np.load(file, allow_pickle=True)
    tensor = tf.constant(array.tolist() if array.dtype == object else array)

    def call(run: Any = run, model: Any = model) -> None:
        next(iter(run(**{alias: tensor}).values())).numpy()

    return lambda: call


def onnx_caller(model: str, output: str, file: str) -> Callable[[], Call]:
    """The sessions that the server would make, each call by the one that the server would take."""
    import numpy as np

    from serving.runtimes.onnx import sessions

    opened = sessions(Path(model))
    feeds = {opened.for_few.get_inputs()[0].name: np.load(file)}

    def call() -> Any:
        with opened.fitting() as session:
            return session.run([output], feeds)

    return lambda: call


KINDS: dict[str, Callable[..., Callable[[], Call]]] = {
    "grpc": grpc_caller,
    "connections": connections_caller,
    "http": http_caller,
    "tensorflow": tensorflow_caller,
    "onnx": onnx_caller,
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
