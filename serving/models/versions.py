"""The versions of one model under BASE/NAME/N: found, loaded, swapped and unloaded while requests go on.

A policy says which versions of a folder are served; the newest is TensorFlow Serving's default. A new version
is loaded beside the old one and takes over once it is ready; the old one is freed when its last request is
done. A version that cannot be loaded leaves the old one serving, and is tried again: some times after a
while, and whenever its files change.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from serving.errors import Code, ServingError
from serving.folders import is_version
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
class VersionPolicy:
    """Which of the versions in a folder are served: the newest `latest`, or those named in `specific`."""

    latest: int | None = 1
    specific: tuple[int, ...] | None = None

    def choose(self, found: Collection[int]) -> list[int]:
        """The versions to serve, newest first."""
        newest_first = sorted(found, reverse=True)
        if self.specific is not None:
            return [version for version in newest_first if version in self.specific]
        return newest_first[: self.latest]


NEWEST = VersionPolicy()
ALL_VERSIONS = VersionPolicy(latest=None)


@dataclass(frozen=True)
class ModelConfig:
    """What is asked of one model; `logging` is its LoggingConfig message, if it has one."""

    name: str
    base_path: Path
    policy: VersionPolicy = NEWEST
    labels: Mapping[str, int] = field(default_factory=dict)
    logging: Any = None


@dataclass(frozen=True)
class Timing:
    """When folders are looked at and failed loads tried again, in seconds.

    `poll` 0 looks once, less never does; `load_threads` versions are loaded at once while the server runs.
    """

    poll: float = 1.0
    retries: int = 0
    retry_interval: float = 60.0
    load_threads: int = 1


DEFAULT_TIMING = Timing()


@dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus tells of a version; `code` and `message` say why it failed, when it did."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclass
class Loaded:
    """A version in memory and the number of requests that use it."""

    version: int
    path: Path
    runtime: Runtime
    requests: int = 0
    retired: bool = False


@dataclass(frozen=True)
class Failure:
    """A version that could not be loaded: its files then, how often it was tried, when it may be again."""

    files: object
    tries: int
    again: float


@dataclass
class ServedModel:
    """All that is known of one model: what is asked, the loaded versions, and the state of every version ever
    seen. One thread polls; any number pin. `config` None means that the model is to go; `tried` is the config
    of the last poll.
    """

    name: str
    config: ModelConfig | None
    load: Load
    timing: Timing = DEFAULT_TIMING
    found: dict[int, Path] | None = None
    statuses: dict[int, VersionStatus] = field(default_factory=dict)
    loaded: dict[int, Loaded] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    trouble: str = ""
    tried: ModelConfig | None = None
    wake: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    loading: AbstractContextManager[Any] = field(default_factory=nullcontext)

    def poll(self, look: bool = True) -> None:
        """Brings what is loaded in line with the folder, read anew if `look`: load what is wanted, newest
        first, and retire the rest.
        """
        wanted = self._wanted(look)
        if wanted is None:
            return
        self._forget(wanted)
        for version, path in wanted.items():
            if not self._serves(version, path):
                self._load(version, path)
                self._retire_unwanted(wanted)
        self._retire_unwanted(wanted)

    def ask(self, config: ModelConfig | None) -> None:
        """Sets what is wanted of the model from now on."""
        self.config = config
        self.wake.set()

    def ready(self) -> bool:
        """Whether some version answers requests."""
        return bool(self.loaded)

    def settled(self) -> bool:
        """Whether nothing more happens by itself: a version is served, or all have failed for good."""
        return self.ready() or (bool(self.failed) and not self.pending())

    def pending(self) -> list[float]:
        """When failed versions are to be tried again."""
        return [f.again for f in list(self.failed.values()) if f.tries <= self.timing.retries]

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

    def _wanted(self, look: bool) -> dict[int, Path] | None:
        """The versions to serve, newest first; None, which changes nothing, while the folder is missing."""
        if self.config is None:
            return {}
        if look:
            self.found = self._look(self.config)
        if self.found is None:
            return None
        return {version: self.found[version] for version in self.config.policy.choose(self.found)}

    def _look(self, config: ModelConfig) -> dict[int, Path] | None:
        try:
            names = sorted(os.listdir(config.base_path))
        except OSError as error:
            self._say(
                f"Could not find base path {config.base_path} for servable {self.name}: {error.strerror}"
            )
            return None
        found = {int(n): config.base_path / n for n in names if is_version(n)}
        found = {version: path for version, path in found.items() if version <= INT64_MAX}
        missing = [v for v in config.policy.specific or () if v not in found]
        self._say(
            _no_versions(config)
            if not found
            else f"Version(s) {missing} of servable {self.name} not found under {config.base_path}"
            if missing
            else ""
        )
        return found

    def _say(self, trouble: str) -> None:
        """Logs a trouble with the folder when it begins, not at every poll."""
        if trouble and trouble != self.trouble:
            log.warning(trouble)
        self.trouble = trouble

    def _serves(self, version: int, path: Path) -> bool:
        return version in self.loaded and self.loaded[version].path == path

    def _forget(self, wanted: Mapping[int, Path]) -> None:
        """A failed version that is no longer wanted ends, and starts anew should it come back."""
        for version in [version for version in self.failed if version not in wanted]:
            del self.failed[version]
            self._set(replace(self.statuses[version], state=State.END))

    def _load(self, version: int, path: Path) -> None:
        files, failure = fingerprint(path), self.failed.get(version)
        changed = failure is not None and failure.files != files
        if failure and not changed and (failure.again > time.monotonic() or self._exhausted(failure)):
            return
        if not failure:
            self._set(VersionStatus(version, State.START))
        with self.loading:
            self._set(VersionStatus(version, State.LOADING))
            try:
                runtime = self.load(path)
            except Exception as error:
                self._fail(version, files, 1 if changed or not failure else failure.tries + 1, error)
                return
        self.failed.pop(version, None)
        self._serve(Loaded(version, path, runtime))

    def _exhausted(self, failure: Failure) -> bool:
        return failure.tries > self.timing.retries

    def _fail(self, version: int, files: object, tries: int, error: Exception) -> None:
        code = error.code if isinstance(error, ServingError) else Code.UNKNOWN
        message = error.message if isinstance(error, ServingError) else f"{type(error).__name__}: {error}"
        failure = Failure(files, tries, time.monotonic() + self.timing.retry_interval)
        self.failed[version] = failure
        state = State.END if self._exhausted(failure) else State.LOADING
        self._set(VersionStatus(version, state, code, message))
        log.error(
            "Loading servable {name: %s version: %d} failed, try %d: %s", self.name, version, tries, message
        )

    def _serve(self, new: Loaded) -> None:
        with self.lock:
            old = self.loaded.get(new.version)
            self.loaded[new.version] = new
            self.statuses[new.version] = VersionStatus(new.version, State.AVAILABLE)
            if old:
                self._leave(old)
        log.info(
            "Successfully loaded servable version {name: %s version: %d} with %s",
            self.name,
            new.version,
            new.runtime.name,
        )

    def _retire_unwanted(self, wanted: Mapping[int, Path]) -> None:
        """No request may find the model gone: what is served stays until something wanted is, one version of
        it at least.
        """
        unwanted = sorted(version for version in self.loaded if version not in wanted)
        replaced = not wanted or any(version in self.loaded for version in wanted)
        for version in unwanted if replaced else unwanted[:-1]:
            self._retire(version)

    def _retire(self, version: int) -> None:
        """No new request gets the version; it is freed now, or by the last request that holds it."""
        with self.lock:
            held = self.loaded.pop(version)
            self.statuses[version] = VersionStatus(version, State.UNLOADING)
            self._leave(held)

    def _leave(self, held: Loaded) -> None:
        held.retired = True
        if not held.requests:
            self._free(held)

    def _free(self, held: Loaded) -> None:
        del held.runtime
        # The same number may have come back meanwhile; its own state stands then.
        if self.statuses[held.version].state == State.UNLOADING:
            self.statuses[held.version] = replace(self.statuses[held.version], state=State.END)
        log.info("Unloaded servable version {name: %s version: %d}", self.name, held.version)

    def _set(self, status: VersionStatus) -> None:
        with self.lock:
            self.statuses[status.version] = status


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


def _no_versions(config: ModelConfig) -> str:
    return (
        f"No versions of servable {config.name} found under base path {config.base_path}. "
        "Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )
