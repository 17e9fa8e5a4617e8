"""Which of a version's files serves it: real exports, measured by real engines."""

import logging
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import serving
from serving.errors import Code, ServingError
from serving.faces.operations import METRICS_PATH
from serving.models.choosing import load
from serving.models.warmup import FILE, entries
from serving.runtimes import FIDELITIES, Candidate, start
from serving.runtimes.base import Engines
from serving.runtimes.candidates import CANDIDATES, found
from serving.wire import records
from serving.wire.protos import PredictionLog

ONNX, LITERT = Candidate("onnx", "model.onnx"), Candidate("litert", "model.tflite")
SAVED_MODEL = Candidate("tensorflow", "saved_model.pb")
IN_OPENVINO = Candidate("openvino", "model.onnx")
TENSORFLOW = "libtensorflow_framework"  # OpenVINO has files of TensorFlow's name, too
IMAGES = np.random.default_rng(5).uniform(0, 255, (3, 32, 40, 3)).astype(np.float32)


@pytest.fixture
def flowers(exported: Path, tmp_path: Path) -> Path:
    """A copy of the version that holds every format."""
    return Path(shutil.copytree(exported / "flowers" / "1", tmp_path / "flowers" / "1"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "serving"


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on a measuring process cannot start."""
    return lambda: monkeypatch.setattr(sys, "executable", "/nowhere/python")


def keep(version: Path, *names: str) -> None:
    """Removes the model files but these."""
    for candidate in CANDIDATES:
        if candidate.file not in names:
            (version / candidate.file).unlink(missing_ok=True)


def tamper(file: Path, scale: float = -1.0) -> None:
    """The same network with other weights."""
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim == 2:
            other = np.ascontiguousarray(weights[::-1] * np.float32(scale))
            tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
    onnx.save(model, file)


def probabilities(runtime: Any) -> np.ndarray:
    return runtime.run("predict_images", {"images": IMAGES}, ["probabilities"])["probabilities"]


def of(runtime: Any) -> dict[Candidate, Any]:
    """What was measured, by candidate."""
    return {measured.candidate: measured for measured in runtime.choice.measured}


# --- who serves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_the_fastest_that_agrees_with_the_recorded_replies_serves(exported: Path, fidelity: str) -> None:
    version = exported / "flowers" / "1"
    runtime = load(version, engines=Engines(fidelity=fidelity))
    choice, measured = runtime.choice, of(runtime)
    assert choice.reference == "the recorded replies"
    assert {candidate.precision for candidate in measured} == set(FIDELITIES[fidelity].precisions)
    assert measured[SAVED_MODEL].trouble == "not needed: another file gives the recorded replies"
    for candidate in (ONNX, LITERT, IN_OPENVINO):
        assert measured[candidate].difference < 1e-5
    agreeing = [m for m in measured.values() if m.agrees(fidelity)]
    assert measured[choice.chosen] in agreeing
    assert measured[choice.chosen].milliseconds <= 1.05 * min(m.milliseconds for m in agreeing)
    tolerance = {"exact": 1e-4, "bf16": 1e-2, "int8": 0.1}[fidelity]
    exact = probabilities(start(ONNX, version))
    np.testing.assert_allclose(probabilities(runtime), exact, atol=tolerance)


def test_a_file_of_other_weights_is_not_chosen(flowers: Path, caplog: pytest.LogCaptureFixture) -> None:
    exact = probabilities(start(ONNX, flowers))
    tamper(flowers / "model.onnx")
    with caplog.at_level(logging.INFO, "serving"):
        runtime = load(flowers)
    assert runtime.choice.chosen.file != "model.onnx"
    np.testing.assert_allclose(probabilities(runtime), exact, atol=1e-4)
    wrong = of(runtime)[ONNX]
    assert wrong.difference > 1e-2
    figures = f"difference {wrong.difference:.1e}, cosine {wrong.cosine:.4f}, too far off"
    assert f"onnx model.onnx {wrong.milliseconds:.2f} ms a picture, {figures}" in caplog.text
    assert f"is served by {runtime.choice.chosen}: the fastest of " in caplog.text


def test_a_file_that_answers_nan_is_not_chosen(flowers: Path) -> None:
    tamper(flowers / "model.onnx", np.nan)
    keep(flowers, "model.onnx", "model.tflite")
    runtime = load(flowers)
    assert runtime.choice.chosen == LITERT
    assert "holds NaN or infinity" in of(runtime)[ONNX].trouble


def test_without_recorded_replies_the_saved_model_judges(flowers: Path) -> None:
    (flowers / FILE).unlink()
    keep(flowers, "saved_model.pb", "model.onnx")
    tamper(flowers / "model.onnx")
    runtime = load(flowers)
    assert runtime.choice.reference == str(SAVED_MODEL)
    assert runtime.choice.chosen == SAVED_MODEL
    assert {candidate for candidate, measured in of(runtime).items() if measured.agrees("exact")} == {
        SAVED_MODEL
    }


def test_without_a_saved_model_the_first_file_judges(flowers: Path) -> None:
    (flowers / FILE).unlink()
    keep(flowers, "model.onnx", "model.tflite")
    tamper(flowers / "model.onnx")
    runtime = load(flowers)
    assert runtime.choice.reference == str(ONNX)
    assert runtime.choice.chosen in (ONNX, IN_OPENVINO)
    assert not of(runtime)[LITERT].agrees("exact")


def test_recorded_replies_of_another_model_do_not_judge(flowers: Path) -> None:
    logs = list(entries(flowers))
    for log in logs:
        for reply in log.predict_log.response.outputs.values():
            reply.tensor_content = np.roll(np.frombuffer(reply.tensor_content, np.float32), 1).tobytes()
    (flowers / FILE).write_bytes(b"".join(records.framed(log.SerializeToString()) for log in logs))
    keep(flowers, "model.onnx", "model.tflite")
    runtime = load(flowers)
    assert runtime.choice.reference == str(ONNX)
    assert of(runtime)[LITERT].agrees("exact")


def test_a_classify_request_is_measured_too(flowers: Path, png: Callable[..., bytes]) -> None:
    log = PredictionLog()
    request = log.classify_log.request
    request.model_spec.signature_name = "classify"
    example = request.input.example_list.examples.add()
    example.features.feature["image/encoded"].bytes_list.value.append(png((255, 0, 0)))
    (flowers / FILE).write_bytes(records.framed(log.SerializeToString()))
    keep(flowers, "model.onnx", "model.tflite")
    measured = of(load(flowers))
    assert measured[ONNX].difference == 0
    assert 0 <= measured[LITERT].difference < 1e-5


# --- files that are broken, or alone --------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.onnx", "model.tflite", "model.xml", "saved_model.pb"])
def test_a_broken_file_stops_nobody(flowers: Path, file: str) -> None:
    (flowers / file).write_bytes(b"\x08\x07no model")
    runtime = load(flowers)
    assert runtime.choice.chosen.file != file
    assert probabilities(runtime).shape == (3, 3)
    if file != "saved_model.pb":
        assert all("cannot be loaded" in m.trouble for c, m in of(runtime).items() if c.file == file)


def test_an_engine_that_crashes_stops_nobody(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crash").mkdir()
    (tmp_path / "crash" / "openvino.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "crash"))
    keep(flowers, "model.onnx", "model.tflite")
    runtime = load(flowers)
    assert runtime.choice.chosen in (ONNX, LITERT)
    assert of(runtime)[IN_OPENVINO].trouble == "it ended the process that measured it (-6)"


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])
def test_one_file_is_not_measured(
    flowers: Path, cache: Path, no_measuring: Callable[[], None], file: str
) -> None:
    no_measuring()
    keep(flowers, file)
    choice = load(flowers).choice
    assert (choice.chosen.file, choice.why, choice.measured) == (file, "the only one", ())
    assert not cache.exists()


def test_an_onnx_file_is_alone_where_openvino_is_not_installed(
    flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    keep(flowers, "model.onnx")
    assert load(flowers).choice.why == "the only one"
    keep(flowers)
    with pytest.raises(ServingError, match=r"Could not find SavedModel .*model.onnx would do too"):
        load(flowers)


def test_tensorflow_runs_litert_files_where_nothing_else_would_do(
    flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    keep(flowers, "model.onnx", "model.tflite")
    assert found(flowers) == [ONNX, IN_OPENVINO]
    assert found(flowers, tflite=True) == found(flowers, runtime="litert") == [LITERT]
    keep(flowers, "model.tflite")
    assert found(flowers) == [LITERT]


def test_openvino_is_named_where_only_it_would_do(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    keep(flowers, "model.xml")
    with pytest.raises(ServingError, match=r"holds model.xml; OpenVINO runs that; install it: pip install"):
        load(flowers)


def test_int8_alone_is_served_when_asked_for(flowers: Path) -> None:
    keep(flowers, "model_int8.tflite")
    with pytest.raises(
        ServingError, match=r"--fidelity=exact does not admit that, --fidelity=int8 does"
    ) as caught:
        load(flowers)
    assert caught.value.code == Code.FAILED_PRECONDITION
    assert load(flowers, engines=Engines(fidelity="int8")).choice.why == "the only one"


def test_an_unknown_fidelity_is_refused(flowers: Path) -> None:
    with pytest.raises(ServingError, match="No fidelity is named fp4; there are exact, bf16, int8"):
        load(flowers, engines=Engines(fidelity="fp4"))


@pytest.mark.parametrize("runtime", ["onnx", "litert", "openvino"])
def test_a_runtime_that_is_asked_for_serves_unmeasured(
    exported: Path, cache: Path, no_measuring: Callable[[], None], runtime: str
) -> None:
    no_measuring()
    version = exported / "flowers" / "1"
    assert load(version, runtime).choice.chosen == next(c for c in CANDIDATES if c.runtime == runtime)
    widest = load(version, runtime, Engines(fidelity="int8")).choice.chosen
    assert (widest.runtime, widest.precision) == (runtime, "int8")
    assert not cache.exists()


def test_where_nothing_can_be_asked_the_first_serves(
    tmp_path: Path, publish: Callable[..., None], add_model: Callable[..., onnx.ModelProto]
) -> None:
    publish(tmp_path / "add", 1, add_model(), labels=None)
    choice = load(tmp_path / "add" / "1", engines=Engines(fidelity="int8")).choice
    assert (choice.chosen, choice.why) == (ONNX, "nothing was measured")


# --- what is kept ---------------------------------------------------------------------------------------


def test_figures_are_kept_until_a_file_changes(
    flowers: Path, cache: Path, no_measuring: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    keep(flowers, "model.onnx", "model.tflite")
    first = load(flowers).choice
    no_measuring()
    assert load(flowers).choice == first
    moved = flowers.parent.parent / "moved"
    flowers.parent.rename(moved)
    assert load(moved / "1").choice == first
    tamper(moved / "1" / "model.onnx")
    assert load(moved / "1").choice.why == "nothing was measured"
    assert "could not be measured" in caplog.text


def test_damaged_figures_are_measured_anew(flowers: Path, cache: Path) -> None:
    keep(flowers, "model.onnx", "model.tflite")
    load(flowers)
    (file,) = cache.glob("*.json")
    file.write_text('{"reference": "cut o')
    assert len(load(flowers).choice.measured) == len(found(flowers))


def test_a_cache_that_cannot_be_written_stops_nobody(
    flowers: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.write_text("a file where the folder should be")
    keep(flowers, "model.onnx", "model.tflite")
    assert len(load(flowers).choice.measured) == len(found(flowers))
    assert "Measurements cannot be kept" in caplog.text


# --- the server -----------------------------------------------------------------------------------------


def test_the_saved_model_answers_what_it_alone_can(exported: Path) -> None:
    with serving.deploy(exported / "line") as endpoint, serving.Client(endpoint.grpc_address, 120) as client:
        maps = Path(f"/proc/{endpoint.process.pid}/maps")
        reply = client.predict("line", {"x": np.float32([[1, 2]])})
        assert reply["y"].tolist() == [[3, 5]]
        assert TENSORFLOW not in maps.read_text()
        with ThreadPoolExecutor(4) as together:
            asked = [
                together.submit(client.predict, "line", {"words": [b"hush"]}, signature="shout")
                for _ in range(4)
            ]
            assert [future.result()["loud"].tolist() for future in asked] == [[b"HUSH"]] * 4
        assert TENSORFLOW in maps.read_text()
        assert client.predict("line", {"x": np.float32([[0, 0]])})["y"].tolist() == [[1, 1]]


def test_an_engine_is_chosen_once_for_all_workers(flowers: Path) -> None:
    keep(flowers, "model.onnx", "model.tflite")
    with serving.deploy(flowers.parent, workers=2) as endpoint:
        told = re.findall(r"worker (\d): \S+ is served by (.+)", endpoint.log.read_text())
    (first, figures), (second, same) = told
    assert (first, second) == ("0", "1")
    assert "ms a picture" in figures
    assert figures == same


def test_status_and_metrics_show_the_choice(
    exported: Path, tmp_path: Path, run_curl: Callable[..., tuple[int, Any]], photos: list[Path]
) -> None:
    version = tmp_path / "flowers" / "1"
    shutil.copytree(exported / "flowers" / "1", version)
    keep(version, "model.onnx", "model.tflite")
    with serving.deploy(version.parent) as endpoint, serving.Client(endpoint.grpc_address) as client:
        assert len(client.classify("flowers", photos[0])) == 3
        status, listed = run_curl(f"{endpoint.rest_url}/v1/models")
        (shown,) = listed["models"][0]["versions"]
        choice = shown["choice"]
        assert (status, choice["fidelity"], choice["reference"]) == (200, "exact", "the recorded replies")
        assert shown["runtime"] == choice["chosen"]["runtime"]
        by_name = {f"{m['candidate']['runtime']} {m['candidate']['file']}": m for m in choice["measured"]}
        assert set(by_name) == {str(candidate) for candidate in found(version)}
        _, page = run_curl(f"{endpoint.rest_url}{METRICS_PATH}")
        line = 'zoo_serving_candidate_seconds{candidate="onnx model.onnx",model_name="flowers",version="1"} '
        seconds = float(page.partition(line)[2].partition("\n")[0])
        assert seconds == pytest.approx(by_name["onnx model.onnx"]["milliseconds"] / 1000)
        facts = Path(f"/proc/{endpoint.process.pid}/status").read_text()
        assert int(facts.partition("VmHWM:")[2].split()[0]) < 300_000
        assert TENSORFLOW not in Path(f"/proc/{endpoint.process.pid}/maps").read_text()
