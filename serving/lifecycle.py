"""Model versions under BASE/NAME/N: found by polling, loaded, swapped and unloaded while requests go on.

The newest version is served (TensorFlow Serving's default policy). A new version is loaded beside the old one
and takes over once it is ready; the old one is freed when its last request is done. A version that cannot be
loaded leaves the old one serving.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

from serving.errors import Code, ServingError
from serving.runtimes import Runtime

log = logging.getLogger("serving")

INT64_MAX = 2**63 - 1
Load = Callable[[Path], Runtime]


class State(IntEnum):
    """The life of a version, numbered as in GetModelStatus."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus tells of a version; `code` and `message` say why it ended, when it failed."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclass
class Loaded:
    """A version in memory and the number of requests that use it."""

    version: int
    runtime: Runtime
    requests: int = 0
    retired: bool = False


@dataclass
class ServedModel:
    """All that is known of one model: its folder, the loaded versions, and the state of every version ever
    seen.
    """

    name: str
    base_path: Path
    load: Load
    statuses: dict[int, VersionStatus] = field(default_factory=dict)
    loaded: dict[int, Loaded] = field(default_factory=dict)
    failed: dict[int, object] = field(default_factory=dict)
    trouble: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def poll(self) -> None:
        """Brings what is loaded in line with the folder: load the newest version, then retire the others."""
        found = self._found()
        if found is None:
            return
        wanted = max(found, default=None)
        self.failed = {version: files for version, files in self.failed.items() if version in found}
        if wanted is not None and wanted not in self.loaded:
            self._load(wanted, found[wanted])
        if wanted is None or wanted in self.loaded:
            for version in [version for version in self.loaded if version != wanted]:
                self._retire(version)

    def ready(self) -> bool:
        """Whether some version answers requests."""
        return bool(self.loaded)

    def history(self) -> list[VersionStatus]:
        """The status of every version seen, newest first."""
        with self.lock:
            return [self.statuses[version] for version in sorted(self.statuses, reverse=True)]

    @contextmanager
    def pin(self, version: int | None) -> Iterator[Loaded]:
        """The version asked for, or the newest, kept in memory for as long as the context lasts; NOT_FOUND
        otherwise.
        """
        with self.lock:
            number = max(self.loaded, default=None) if version is None else version
            held = self.loaded.get(number) if number is not None else None
            if held is None:
                raise not_found(self.name, version)
            held.requests += 1
        try:
            yield held
        finally:
            with self.lock:
                held.requests -= 1
                if held.retired and not held.requests:
                    self._free(held)

    def _found(self) -> dict[int, Path] | None:
        """The version folders by number; None, which changes nothing, while the model's folder is missing."""
        try:
            names = sorted(os.listdir(self.base_path))
        except OSError as error:
            self._say(f"Could not find base path {self.base_path} for servable {self.name}: {error.strerror}")
            return None
        found = {int(name): self.base_path / name for name in names if name.isascii() and name.isdecimal()}
        found = {version: path for version, path in found.items() if version <= INT64_MAX}
        self._say("" if found else _no_versions(self.name, self.base_path))
        return found

    def _say(self, trouble: str) -> None:
        """Logs a trouble with the folder when it begins, not at every poll."""
        if trouble and trouble != self.trouble:
            log.warning(trouble)
        self.trouble = trouble

    def _load(self, version: int, path: Path) -> None:
        files = fingerprint(path)
        if version in self.failed and self.failed[version] == files:
            return
        self._set(VersionStatus(version, State.LOADING))
        try:
            runtime = self.load(path)
        except Exception as error:
            code = error.code if isinstance(error, ServingError) else Code.UNKNOWN
            message = error.message if isinstance(error, ServingError) else f"{type(error).__name__}: {error}"
            self.failed[version] = files
            self._set(VersionStatus(version, State.END, code, message))
            log.error("Loading servable {name: %s version: %d} failed: %s", self.name, version, message)
            return
        self.failed.pop(version, None)
        with self.lock:
            self.loaded[version] = Loaded(version, runtime)
            self.statuses[version] = VersionStatus(version, State.AVAILABLE)
        log.info(
            "Successfully loaded servable version {name: %s version: %d} with %s",
            self.name,
            version,
            runtime.name,
        )

    def _retire(self, version: int) -> None:
        """No new request gets the version; it is freed now, or by the last request that holds it."""
        with self.lock:
            held = self.loaded.pop(version)
            held.retired = True
            self.statuses[version] = VersionStatus(version, State.UNLOADING)
            if not held.requests:
                self._free(held)

    def _free(self, held: Loaded) -> None:
        del held.runtime
        # The same number may have come back meanwhile; its own state stands then.
        if held.version not in self.loaded:
            self.statuses[held.version] = replace(self.statuses[held.version], state=State.END)
        log.info("Unloaded servable version {name: %s version: %d}", self.name, held.version)

    def _set(self, status: VersionStatus) -> None:
        with self.lock:
            self.statuses[status.version] = status


class Models:
    """The served models by name, each watched by a thread of its own so that one cannot hold up another."""

    def __init__(self, base_paths: Mapping[str, Path], load: Load) -> None:
        self._models = {name: ServedModel(name, path, load) for name, path in base_paths.items()}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, poll_seconds: float = 1.0) -> None:
        """Loads every model once, side by side, then goes on watching the folders. Returns when all first
        loads have ended.
        """
        first = threading.Barrier(len(self._models) + 1)
        for model in self._models.values():
            thread = threading.Thread(target=self._watch, args=(model, poll_seconds, first), daemon=True)
            self._threads.append(thread)
            thread.start()
        first.wait()

    def stop(self) -> None:
        """Ends the watching, once a load under way is done; what is loaded stays usable."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def find(self, name: str, version: int | None = None) -> ServedModel:
        """The model of this name; NOT_FOUND, worded for the version asked for, when there is none."""
        if name not in self._models:
            raise not_found(name, version)
        return self._models[name]

    def all(self) -> Mapping[str, ServedModel]:
        """Every configured model, whether it could be loaded or not."""
        return self._models

    def _watch(self, model: ServedModel, poll_seconds: float, first: threading.Barrier) -> None:
        self._poll(model)
        first.wait()
        while not self._stopping.wait(poll_seconds):
            self._poll(model)

    def _poll(self, model: ServedModel) -> None:
        try:
            model.poll()
        except Exception:
            log.exception("Polling %s failed; it is tried again", model.base_path)


def not_found(name: str, version: int | None) -> ServingError:
    """TensorFlow Serving's answer for a model or version that is not loaded; its clients look for the word
    Servable.
    """
    request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return ServingError(Code.NOT_FOUND, f"Servable not found for request: {request}")


def fingerprint(path: Path) -> object:
    """Changes when a file below the folder is added, removed or written."""
    files = [path, *path.rglob("*")]
    return sorted((os.fspath(file), *_stat(file)) for file in files)


def _stat(file: Path) -> tuple[int, int]:
    try:
        facts = file.stat()
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


def _no_versions(name: str, base_path: Path) -> str:
    return (
        f"No versions of servable {name} found under base path {base_path}. "
        "Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )
