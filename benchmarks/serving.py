"""How fast the server is, against TensorFlow, ONNX Runtime and other servers: docs/benchmarks.md's "Serving".

    python benchmarks/serving.py served null saturation rest workers peers pictures start memory

Each section takes a few minutes; nothing else should run on the machine. `served` takes --fidelity bf16 or
int8, too. Both sides of a pair run in turns, each caller in a process of its own (benchmarks/contenders.py),
whose processor time is stated, for it is taken from the server. Weights are random; the exported models, and
the other servers' environments, are kept in build/.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "serving"
ROUNDS = 5
SECONDS = 2.0  # of a round
NETWORKS = {"MobileNetV2": "mobilenetv2_100", "ResNet50": "resnet50"}
PREDICT = "/tensorflow.serving.PredictionService/Predict"
# How many times TensorFlow's own call, by what the answers may differ.
GOALS = {
    "exact": {"MobileNetV2": 3.0, "ResNet50": 1.3},
    "bf16": {"MobileNetV2": 4.0, "ResNet50": 2.4},
    "int8": {"MobileNetV2": 4.0, "ResNet50": 3.0},
}


@dataclass(frozen=True)
class Row:
    """A goal and what became of it; `reached` is None where nothing could be measured."""

    question: str
    goal: str
    figure: str
    reached: bool | None


# --- callers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """Of one side: answers a second, milliseconds, and the share of the machine that its callers took."""

    rate: float
    p50: float
    p99: float
    share: float

    @property
    def accounted(self) -> float:
        """The rate that the server alone would have on the whole machine: true where it is saturated."""
        return self.rate / (1 - self.share)


@contextmanager
def caller(*arguments: object, seconds: float = SECONDS) -> Iterator[Callable[[int], dict[str, float]]]:
    """A process of benchmarks/contenders.py; the context's value runs one round."""
    command = [sys.executable, str(HERE / "contenders.py"), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout

    def ask(callers: int) -> dict[str, float]:
        print(callers, seconds, file=process.stdin, flush=True)
        return json.loads(answer(process))

    try:
        answer(process)
        yield ask
    finally:
        process.stdin.close()
        process.wait()


def answer(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"{process.args} ended with {process.wait()}")
    return line


def compare(sides: list[Callable[[int], dict[str, float]]], callers: int) -> list[Figures]:
    """Medians of each side, in turns."""
    rounds = [[side(callers) for side in sides] for _ in range(ROUNDS + 1)][1:]
    cores = len(os.sched_getaffinity(0))

    def median(side: int, value: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(value(turn[side]) for turn in rounds)

    return [
        Figures(
            rate=median(side, lambda r: r["answers"] / r["seconds"]),
            p50=median(side, lambda r: r["p50"]),
            p99=median(side, lambda r: r["p99"]),
            share=median(side, lambda r: r["processor"] / r["seconds"] / cores),
        )
        for side in range(len(sides))
    ]


def times(ours: float, theirs: float, unit: str = "pictures/s") -> str:
    return f"{ours:.1f} against {theirs:.1f} {unit}: {ours / theirs:.2f} x"


# --- models and requests ------------------------------------------------------------------------------------


def exported(network: str) -> Path:
    """BASE/NAME with one version: SavedModel, ONNX, and ONNX in int8. Written by a process of its own, whose
    memory ends with it.
    """
    base = BUILD / "models" / NETWORKS[network]
    if not base.exists():
        run_python("import sys; from benchmarks.serving import export; export(sys.argv[1])", base)
    return base


def export(base: str) -> None:
    """The network that the folder is named after, with random weights: no measure of int8's accuracy."""
    import exporters
    from benchmarks import matrix

    pictures = matrix.crops()
    model = matrix.network(Path(base).name, pictures)
    formats = ("saved_model", "onnx", "onnx_int8")
    loose = {"onnx_int8": 1.0}
    exporters.export(model, base, formats, pictures=pictures, calibrate=pictures, tolerance=loose)


def onnx_only(network: str, copy: int = 0) -> Path:
    """BASE/NAME with the ONNX file and its card alone."""
    whole = exported(network)
    base = BUILD / "onnx" / f"{whole.name}_{copy}"
    if not base.exists():
        (base / "1").mkdir(parents=True)
        for file in ("model.onnx", "card.json"):
            shutil.copy(whole / "1" / file, base / "1" / file)
    return base


def null_model() -> Path:
    """Gives a number of its input of four dimensions, whatever they are."""
    from onnx import TensorProto, helper, save

    base = BUILD / "null"
    (base / "1").mkdir(parents=True, exist_ok=True)
    starts, ends, axes = (
        helper.make_tensor(name, TensorProto.INT64, [3], values)
        for name, values in (("starts", [0, 0, 0]), ("ends", [1, 1, 1]), ("axes", [1, 2, 3]))
    )
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["y"])],
        "null",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "h", "w", "c"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 1, 1])],
        [starts, ends, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, base / "1" / "model.onnx")
    return base


def request(model: str, signature: str, alias: str, value: Any, output: str) -> Path:
    """The file of a PredictRequest."""
    from serving.wire import tensors
    from serving.wire.protos import PredictRequest

    message = PredictRequest(output_filter=[output])
    message.model_spec.name, message.model_spec.signature_name = model, signature
    message.inputs[alias].CopyFrom(tensors.to_content(value))
    file = BUILD / f"{model}-{alias}-{value.size}.request"
    file.write_bytes(message.SerializeToString())
    return file


def number_request() -> Path:
    """One number to the null model."""
    import numpy as np

    return request("null", "", "x", np.zeros((1, 1, 1, 1), np.float32), "y")


def jpeg_request(model: str, encoded: bytes) -> Path:
    import numpy as np

    return request(model, "", "image_bytes", np.array([encoded], object), "classes")


def picture() -> Any:
    """float32 [1, 224, 224, 3], 0..255, of a photo."""
    import numpy as np
    from sklearn.datasets import load_sample_images

    return load_sample_images().images[0][None, 100:324, 200:424].astype(np.float32)


def saved(name: str, array: Any) -> Path:
    """The file of an array."""
    import numpy as np

    file = BUILD / f"{name}.npy"
    np.save(file, array, allow_pickle=True)
    return file


@contextmanager
def serving_of(*bases: Path, **options: str) -> Iterator[Any]:
    """A server process, serving.Endpoint; `options` are its flags."""
    from serving.deployment.local import start

    folders = [f"--model-base-path={base}" for base in bases]
    with start([*folders, *(f"--{name}={value}" for name, value in options.items())]) as endpoint:
        yield endpoint


def settle(*bases: Path) -> None:
    """A first start, in which the server measures its engines and keeps its choice."""
    with serving_of(*bases):
        pass


def engine(endpoint: Any) -> str:
    """Runtime and file of the first model, as the server says itself."""
    with urllib.request.urlopen(f"{endpoint.rest_url}/v1/models") as reply:
        chosen = json.load(reply)["models"][0]["versions"][0]["choice"]["chosen"]
    return f"{chosen['runtime']} {chosen['file']}"


# --- sections -----------------------------------------------------------------------------------------------


def served(fidelity: str) -> list[Row]:
    """Pictures of the input size over gRPC, against TensorFlow's own call of the same SavedModel. Eight
    clients saturate the machine: what they take of it themselves is accounted for.
    """
    if fidelity == "bf16" and not computes_bfloat16():
        return [Row("bf16", "", "this processor does not compute in bfloat16", None)]
    rows = []
    for network, goal in GOALS[fidelity].items():
        base, pixels = exported(network), picture()
        asked = request(base.name, "predict_images", "images", pixels, "probabilities")
        with (
            serving_of(base, fidelity=fidelity) as endpoint,
            caller("grpc", endpoint.grpc_address, PREDICT, asked) as ours,
            caller("tensorflow", base / "1", "predict_images", saved("pixels", pixels)) as theirs,
        ):
            for callers in (1, 8):
                server, tensorflow = compare([ours, theirs], callers)
                rate = server.rate if callers == 1 else server.accounted
                figure = (
                    f"{times(rate, tensorflow.rate)} by {engine(endpoint)} "
                    f"(measured {server.rate:.1f}; client {server.share:.0%})"
                )
                reached = rate >= goal * tensorflow.rate
                rows.append(Row(f"{network}, {clients(callers)}", f">= {goal} x", figure, reached))
    return rows


def computes_bfloat16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in text or "amx_bf16" in text


def clients(callers: int) -> str:
    return "1 client" if callers == 1 else f"{callers} clients"


def null() -> list[Row]:
    """A model that does nothing: what the server itself takes."""
    import numpy as np

    base = null_model()
    with serving_of(base) as endpoint:
        small = number_request()
        large = request("null", "", "x", np.random.rand(1, 224, 224, 3).astype("f4"), "y")
        with (
            caller("grpc", endpoint.grpc_address, PREDICT, small) as one,
            caller("grpc", endpoint.grpc_address, PREDICT, large) as many,
        ):
            little, much = compare([one, many], 1)
    added = much.p50 - little.p50
    return [
        Row("Predict of one number, p50", "<= 0.7 ms", f"{little.p50:.2f} ms", little.p50 <= 0.7),
        Row("224 x 224 x 3 floats add, p50", "<= 1 ms", f"{added:.2f} ms", added <= 1),
    ]


def saturation() -> list[Row]:
    """Eight clients over gRPC, against eight threads that call ONNX Runtime in their own process."""
    rows = []
    for network in NETWORKS:
        base, pixels = onnx_only(network), picture()
        asked = request(base.name, "predict_images", "images", pixels, "probabilities")
        model = base / "1" / "model.onnx"
        with (
            serving_of(base, runtime="onnx") as endpoint,
            caller("grpc", endpoint.grpc_address, PREDICT, asked) as ours,
            caller("onnx", model, "probabilities", saved("pixels", pixels)) as theirs,
        ):
            server, alone = compare([ours, theirs], 8)
        figure = (
            f"{times(server.accounted, alone.rate)} (measured {server.rate:.1f}; client {server.share:.0%})"
        )
        rows.append(Row(f"{network}, 8 clients", ">= 0.9 x", figure, server.accounted >= 0.9 * alone.rate))
    return rows


def rest() -> list[Row]:
    """REST against gRPC, the same requests, each client by a connection of its own."""
    from benchmarks.decoding import photo

    base, nothing, encoded = onnx_only("MobileNetV2"), null_model(), photo((500, 375))
    instance = {"image_bytes": {"b64": base64.b64encode(encoded).decode()}}
    asked = {
        "a number back": (number_request(), posted("null", [[[0.0]]])),
        "MobileNetV2, a JPEG": (jpeg_request(base.name, encoded), posted(base.name, instance)),
    }
    rows = []
    with serving_of(base, nothing) as endpoint:
        for name, (message, (path, body)) in asked.items():
            address = endpoint.rest_url.removeprefix("http://")
            with (
                caller("http", address, path, body, "application/json") as http,
                caller("connections", endpoint.grpc_address, PREDICT, message) as grpc,
            ):
                rows += rows_against(name, [http, grpc], (1, 8))
    return rows


def posted(model: str, instance: Any) -> tuple[str, Path]:
    """The path of a model's predictions, and the file of a request in JSON."""
    file = BUILD / f"{model}.json"
    file.write_text(json.dumps({"instances": [instance]}), encoding="utf-8")
    return f"/v1/models/{model}:predict", file


def workers() -> list[Row]:
    """Two processes on one port against one, over gRPC, each client by a connection of its own."""
    from benchmarks.decoding import photo

    base, nothing, pixels = onnx_only("MobileNetV2"), null_model(), picture()
    asked = {
        "a number back": number_request(),
        "MobileNetV2, floats": request(base.name, "predict_images", "images", pixels, "probabilities"),
        "MobileNetV2, a JPEG": jpeg_request(base.name, photo((500, 375))),
    }
    rows = []
    with serving_of(base, nothing) as one, serving_of(base, nothing, workers="2") as two:
        for name, file in asked.items():
            with (
                caller("connections", two.grpc_address, PREDICT, file, seconds=1.0) as ours,
                caller("connections", one.grpc_address, PREDICT, file, seconds=1.0) as theirs,
            ):
                rows += rows_against(name, [ours, theirs], (1, 8, 32))
    return rows


def rows_against(
    name: str, pair: list[Callable[[int], dict[str, float]]], counts: tuple[int, ...]
) -> list[Row]:
    return [Row(f"{name}, {clients(n)}", "-", against(*compare(pair, n)), None) for n in counts]


def against(ours: Figures, theirs: Figures) -> str:
    middle, slow = (f"{a:.1f} against {b:.1f}" for a, b in ((ours.p50, theirs.p50), (ours.p99, theirs.p99)))
    return f"{times(ours.rate, theirs.rate, 'answers/s')}; p50 {middle}, p99 {slow} ms"


def pictures() -> list[Row]:
    """JPEG files in, classes out, against the SavedModel's serving_default, which decodes by TensorFlow."""
    import numpy as np

    from benchmarks.decoding import photo

    base = exported("MobileNetV2")
    rows = []
    for name, size in (("12 megapixels", (4000, 3000)), ("500 pixels", (500, 375))):
        encoded = photo(size)
        asked = jpeg_request(base.name, encoded).rename(BUILD / f"{size[0]}.request")
        with (
            serving_of(base) as endpoint,
            caller("grpc", endpoint.grpc_address, PREDICT, asked) as ours,
            caller(
                "tensorflow", base / "1", "serving_default", saved("encoded", np.array([encoded], object))
            ) as theirs,
        ):
            for callers in (1, 8):
                server, tensorflow = compare([ours, theirs], callers)
                reached = server.rate >= 2 * tensorflow.rate
                figure = f"{times(server.rate, tensorflow.rate)} by {engine(endpoint)}"
                rows.append(Row(f"MobileNetV2, {name}, {clients(callers)}", ">= 2 x", figure, reached))
    return rows


def start() -> list[Row]:
    """From a process's start to its first answer, once the server has measured its engines."""
    from benchmarks.decoding import photo
    from serving import Client

    base = onnx_only("MobileNetV2")
    file = BUILD / "photo.jpg"
    file.write_bytes(photo((500, 375)))
    servers, askers = [], []
    settle(base)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with serving_of(base) as endpoint, Client(endpoint.grpc_address) as client:
            assert len(client.classify(base.name, file)) == 5
            servers.append(time.perf_counter() - began)
            askers.append(float(run_python(ASKER, endpoint.grpc_address, base.name, file)))
    server, asker = statistics.median(servers), statistics.median(askers)
    return [
        Row("server, an ONNX directory", "<= 1.5 s", f"{server:.2f} s", server <= 1.5),
        Row("client, from its import", "<= 0.6 s", f"{asker:.2f} s", asker <= 0.6),
    ]


ASKER = """
import sys, time
began = time.perf_counter()
import serving
assert len(serving.Client(sys.argv[1]).classify(*sys.argv[2:])) == 5
print(time.perf_counter() - began)
"""


def run_python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent).stdout


def memory() -> list[Row]:
    """Resident memory after a hundred requests of each model, 8 at once."""
    one, ten = (resident([onnx_only("MobileNetV2", i) for i in range(count)]) for count in (1, 10))
    weights = (onnx_only("MobileNetV2") / "1" / "model.onnx").stat().st_size / 1e6
    added = (ten - one) / 9 / weights
    figure = f"{(ten - one) / 9:.1f} MB for {weights:.1f} MB of weights: {added:.2f} x"
    return [
        Row("serving MobileNetV2", "<= 200 MB", f"{one:.0f} MB", one <= 200),
        Row("each of ten models adds", "<= 1.3 x its weights", figure, added <= 1.3),
    ]


def resident(bases: list[Path]) -> float:
    """Megabytes of a server of these models."""
    from concurrent.futures import ThreadPoolExecutor

    from serving import Client

    pixels = picture()
    settle(*bases)
    with (
        serving_of(*bases) as endpoint,
        Client(endpoint.grpc_address) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        for base in bases:
            list(pool.map(lambda _, name=base.name: client.classify(name, pixels), range(100)))
        status = Path(f"/proc/{endpoint.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def peers() -> list[Row]:
    """Pictures of the input size, the same ONNX file behind each server; ours over gRPC."""
    from benchmarks.peers import PEERS, running

    base, pixels = onnx_only("MobileNetV2"), picture()
    asked = request(base.name, "predict_images", "images", pixels, "probabilities")
    rows = []
    with (
        serving_of(base) as endpoint,
        caller("grpc", endpoint.grpc_address, PREDICT, asked) as ours,
    ):
        for peer in PEERS:
            try:
                with (
                    running(peer, base / "1" / "model.onnx", pixels) as arguments,
                    caller(*arguments) as theirs,
                ):
                    rows += [
                        peer_row(peer.name, callers, *compare([ours, theirs], callers))
                        for callers in (1, 8, 32)
                    ]
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                rows.append(Row(peer.name, ">= 2 x", f"not measured: {error}", None))
    return rows


def peer_row(name: str, callers: int, ours: Figures, theirs: Figures) -> Row:
    figure = f"{times(ours.rate, theirs.rate)}; p99 {ours.p99:.0f} against {theirs.p99:.0f} ms"
    reached = ours.rate >= 2 * theirs.rate and ours.p99 < theirs.p99
    return Row(f"{name}, {clients(callers)}", ">= 2 x, lower p99", figure, reached)


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "null": null,
    "saturation": saturation,
    "rest": rest,
    "workers": workers,
    "peers": peers,
    "pictures": pictures,
    "start": start,
    "memory": memory,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("sections", nargs="+", choices=["served", *SECTIONS])
    arguments.add_argument("--fidelity", choices=list(GOALS), default="exact")
    given = arguments.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    # The choices that servers keep may come from a busy machine.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ZOO_CACHE"] = cache
        for section in given.sections:
            if section == "served":
                write(f"served, {given.fidelity}", served.__doc__, served(given.fidelity))
            else:
                write(section, SECTIONS[section].__doc__, SECTIONS[section]())


def write(section: str, what: str | None, rows: list[Row]) -> None:
    """Replaces the section in docs/benchmarks.md."""
    from benchmarks.machine import machine
    from benchmarks.page import replace_section

    lines = [f"| {r.question} | {r.goal} | {r.figure} | {WORDS[r.reached]} |" for r in rows]
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "grpcio"))
    told = " ".join((what or "").split())
    words = f"{told} `python benchmarks/serving.py {section.split(',')[0]}`, on {machine()}, {versions}."
    text = "\n".join([words, "", "| what | goal | measured | reached |", "| --- | --- | --- | --- |", *lines])
    print(text)
    replace_section(f"Serving: {section}", text)


WORDS = {True: "yes", False: "no", None: "-"}

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
