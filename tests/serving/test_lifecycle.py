"""What a served model does as its folder and its config change, in this process, on real ONNX files."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import onnx
import pytest

from serving.errors import Code, ServingError
from serving.models.lifecycle import Models
from serving.models.versions import ALL_VERSIONS, ModelConfig, ServedModel, State, Timing, VersionPolicy
from serving.runtimes import Runtime, load

MakeModel = Callable[..., onnx.ModelProto]


@pytest.fixture
def base(tmp_path: Path, publish: Callable[..., None], colour_model: MakeModel) -> Path:
    """Versions 1, 2 and 3 of a model."""
    publish(tmp_path / "m", 1, colour_model())
    for version in (2, 3):
        shutil.copytree(tmp_path / "m" / "1", tmp_path / "m" / str(version))
    return tmp_path / "m"


def states(model: ServedModel) -> dict[int, State]:
    return {status.version: status.state for status in model.history()}


def add(base: Path, version: str) -> Path:
    """A copy of version 1, whole from the start."""
    shutil.copytree(base / "1", base / f".{version}")
    return (base / f".{version}").rename(base / version)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (VersionPolicy(), [3]),
        (VersionPolicy(latest=2), [2, 3]),
        (ALL_VERSIONS, [1, 2, 3]),
        (VersionPolicy(specific=(1, 3, 9)), [1, 3]),
    ],
)
def test_a_policy_chooses_the_versions(base: Path, policy: VersionPolicy, served: list[int]) -> None:
    model = ServedModel("m", ModelConfig("m", base, policy), load)
    model.poll()
    assert sorted(model.loaded) == served
    with model.pin(None) as newest:
        assert newest.version == served[-1]
    assert ("[9]" in model.trouble) == (policy.specific is not None)


def test_what_is_served_stays_until_its_successor_is_ready(base: Path) -> None:
    seen: list[list[int]] = []

    def watched(path: Path) -> Runtime:
        seen.append(sorted(model.loaded))
        return load(path)

    model = ServedModel("m", ModelConfig("m", base, VersionPolicy(specific=(1, 2))), watched)
    model.poll()
    model.ask(ModelConfig("m", base, VersionPolicy(specific=(3,))))
    model.poll()
    assert seen == [[], [2], [1, 2]]
    assert states(model) == {3: State.AVAILABLE, 2: State.END, 1: State.END}


def test_two_that_nobody_wants_make_room_before_their_successor_is_there(base: Path) -> None:
    model = ServedModel("m", ModelConfig("m", base, VersionPolicy(specific=(1, 2))), load)
    model.poll()
    (add(base, "4") / "model.onnx").write_bytes(b"no model")
    model.ask(ModelConfig("m", base))
    model.poll()
    assert states(model) == {4: State.END, 2: State.AVAILABLE, 1: State.END}


def test_a_failed_load_is_tried_again_so_often_and_when_files_change(base: Path) -> None:
    tries: list[int] = []

    def failing(path: Path) -> Runtime:
        tries.append(1)
        raise ServingError(Code.DATA_LOSS, "broken") if len(tries) < 5 else OSError("disk")

    timing = Timing(retries=2, retry_interval=0)
    model = ServedModel("m", ModelConfig("m", base), failing, timing)
    model.poll()
    assert (states(model), model.settled(), len(model.pending())) == ({3: State.LOADING}, False, 1)
    for _ in range(3):
        model.poll()
    assert len(tries) == 3
    status = model.history()[0]
    assert (status.state, status.code, status.message) == (State.END, Code.DATA_LOSS, "broken")
    assert model.settled()
    (base / "3" / "card.json").write_text("{}")
    for _ in range(9):
        model.poll()
    assert len(tries) == 6
    assert model.history()[0].message == "OSError: disk"
    shutil.rmtree(base / "3")
    shutil.rmtree(base / "2")
    model.poll()
    assert states(model) == {3: State.END, 1: State.LOADING}


def test_a_retry_waits_its_interval(base: Path) -> None:
    tries: list[Path] = []

    def failing(path: Path) -> Runtime:
        tries.append(path)
        raise OSError("broken")

    model = ServedModel("m", ModelConfig("m", base), failing, Timing(retries=5, retry_interval=3600))
    model.poll()
    model.poll()
    assert len(tries) == 1


def test_another_base_path_is_loaded_before_the_old_one_goes(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "elsewhere")
    model = ServedModel("m", ModelConfig("m", base), load)
    model.poll()
    with model.pin(3) as old:
        model.ask(ModelConfig("m", tmp_path / "elsewhere"))
        model.poll()
        with model.pin(3) as new:
            assert (new.path, old.path) == (tmp_path / "elsewhere" / "3", base / "3")
        assert old.runtime.signatures
    assert states(model) == {3: State.AVAILABLE}


@contextmanager
def served(*configs: ModelConfig, **timing: float) -> Iterator[Models]:
    models = Models(configs, load, Timing(**{"poll": 0.05, **timing}))  # type: ignore[arg-type]
    models.start()
    try:
        assert models.tried(30)
        yield models
    finally:
        models.stop()


def refusal(models: Models, *configs: ModelConfig) -> tuple[Code, str]:
    with pytest.raises(ServingError) as caught:
        models.reload(configs)
    return caught.value.code, caught.value.message


def test_labels_lead_to_versions_and_move_only_to_what_is_available(base: Path) -> None:
    config = ModelConfig("m", base, labels={"stable": 3, "next": 4})
    with served(config) as models:
        with models.pin("m", label="stable") as held:
            assert held.version == 3
        with (
            pytest.raises(ServingError, match=r"NOT_FOUND: .*Specific\(m, 4\)"),
            models.pin("m", label="next"),
        ):
            pass
        models.reload([config])
        moved = ModelConfig("m", base, labels={"stable": 2})
        assert refusal(models, moved)[0] == Code.FAILED_PRECONDITION
        with models.pin("m", label="stable") as held:
            assert held.version == 3
        models.reload([ModelConfig("m", base)])
        with pytest.raises(ServingError, match="Unrecognized servable version label: stable"):
            models.pin("m", label="stable")


def test_new_labels_may_be_free(base: Path) -> None:
    models = Models([ModelConfig("m", base, labels={"old": 3})], load, Timing(poll=0.05), free_labels=True)
    models.start()
    assert models.tried(30)
    models.reload([ModelConfig("m", base, labels={"old": 3, "new": 9})])
    assert refusal(models, ModelConfig("m", base, labels={"old": 8}))[0] == Code.FAILED_PRECONDITION
    models.stop()


def test_a_reload_drops_and_takes_back_a_model(base: Path) -> None:
    config = ModelConfig("m", base)
    with served(config, poll=0) as models:
        model = models.all()["m"]
        models.reload([])
        assert models.all() == {}
        models.reload([config])
        assert models.all() == {"m": model}
        assert states(model) == {3: State.AVAILABLE}
        assert refusal(models, config, ModelConfig("n", base.parent / "n")) == (
            Code.UNKNOWN,
            "1 model(s) did not become available: {{name: n} due to error: NOT_FOUND: Could not find base "
            f"path {base.parent / 'n'} for servable n: No such file or directory, }}",
        )


def test_polling_once_and_never(base: Path) -> None:
    with served(ModelConfig("m", base), poll=-1) as models:
        assert states(models.all()["m"]) == {}
    with served(ModelConfig("m", base), poll=0) as models:
        add(base, "4")
        threads = [thread for thread in threading.enumerate() if thread.name == "watch m"]
        assert [thread.is_alive() for thread in threads] == [True]
        models.all()["m"].poll(look=False)
        assert states(models.all()["m"]) == {3: State.AVAILABLE}
        # A config that changes is a reason to look.
        models.reload([ModelConfig("m", base, ALL_VERSIONS)])
        assert models.tried(30)
        assert sorted(models.all()["m"].loaded) == [1, 2, 3, 4]


def test_a_warning_is_given_once(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = ServedModel("m", ModelConfig("m", base.parent / "nowhere"), load)
    with caplog.at_level(logging.WARNING, "serving"):
        model.poll()
        model.poll()
    assert [record.getMessage() for record in caplog.records] == [
        f"Could not find base path {base.parent / 'nowhere'} for servable m: No such file or directory"
    ]


def test_a_directory_is_loaded_by_its_files(base: Path, tmp_path: Path) -> None:
    assert load(base / "1").name == "onnx"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match=r"NOT_FOUND: Could not find SavedModel .pb or .pbtxt at supplied"):
        load(tmp_path / "empty")
    with pytest.raises(
        ServingError, match="No runtime is named torch; there are onnx, tensorflow, litert, openvino"
    ):
        partial(load, runtime="torch")(base / "1")
