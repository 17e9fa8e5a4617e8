"""The served models: each watched by a thread, asked for by name, and changed when the configuration is."""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from serving.errors import Code, ServingError, invalid
from serving.models.versions import (
    DEFAULT_TIMING,
    Load,
    Loaded,
    ModelConfig,
    ServedModel,
    Timing,
    VersionStatus,
    not_found,
)

log = logging.getLogger("serving")

FIRST_LOADS = 4 * (os.cpu_count() or 1)  # at once, before the ports open


class Models:
    """The served models by name, each watched by a thread of its own so that one cannot hold up another.

    With `free_labels` a label may be given to a version that is not available.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        load: Load,
        timing: Timing = DEFAULT_TIMING,
        free_labels: bool = False,
    ) -> None:
        self._load = load
        self._timing = timing
        self._free_labels = free_labels
        self._models: dict[str, ServedModel] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._reloading = threading.Lock()
        self._progress = threading.Condition()
        self._loading: AbstractContextManager[Any] = threading.Semaphore(FIRST_LOADS)
        for config in configs:
            self._add(config)

    def start(self) -> None:
        """Loads every model, side by side, and goes on watching the folders. Returns at once."""
        for model in self._models.values():
            self._watch_in_thread(model)

    def tried(self, timeout: float | None = None) -> bool:
        """Waits up to `timeout` seconds until every model was tried; whether that is so."""
        return self._wait_for(list(self._models.values()), timeout)

    def serving_begins(self) -> None:
        """From now on no more than the timing's `load_threads` load at once."""
        self._loading = threading.Semaphore(max(1, self._timing.load_threads))
        for model in self._models.values():
            model.loading = self._loading

    def stop(self) -> None:
        """Ends the watching, once a load under way is done; what is loaded stays usable."""
        self._stopping.set()
        for model in self._models.values():
            model.wake.set()
        with self._progress:
            self._progress.notify_all()
        for thread in self._threads:
            thread.join()

    def all(self) -> Mapping[str, ServedModel]:
        """Every configured model, whether it could be loaded or not."""
        models = dict(self._models)
        return {name: model for name, model in models.items() if model.config is not None}

    def known(self, name: str) -> bool:
        """Whether a model of this name is served now."""
        model = self._models.get(name)
        return model is not None and model.config is not None

    def logging(self, name: str) -> Any:
        """The LoggingConfig of a model, None when its requests are not logged."""
        model = self._models.get(name)
        return model.config.logging if model and model.config else None

    def history(self, name: str) -> list[VersionStatus]:
        """Every version ever seen of a model, newest first, even when the model is no longer served."""
        model = self._models.get(name)
        return model.history() if model else []

    def pin(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> AbstractContextManager[Loaded]:
        """A version, by number or label, or the newest, kept while the context lasts. NOT_FOUND when it is
        not loaded, INVALID_ARGUMENT for an unknown label.
        """
        model = self._models.get(name)
        if label is not None:
            config = model.config if model else None
            if config is None or label not in config.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            version = config.labels[label]
        if model is None:
            raise not_found(name, version)
        return model.pin(version)

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models and no others; returns once each new one was tried.

        Raises FAILED_PRECONDITION, before anything changes, for a label of a version that is not available;
        UNKNOWN, with everything else in place, when new models could not be loaded.
        """
        with self._reloading:
            served = self.all()
            for config in configs:
                if config.name in served:
                    self._check_labels(served[config.name], config.labels)
            for name in set(served) - {config.name for config in configs}:
                served[name].ask(None)
            for config in configs:
                self._change(config)
        new = [self._models[config.name] for config in configs if config.name not in served]
        self._wait_for(new, None)
        failed = [model for model in new if not model.ready()]
        if failed:
            raise ServingError(
                Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {why(failed)}"
            )

    def _check_labels(self, model: ServedModel, labels: Mapping[str, int]) -> None:
        known = model.config.labels if model.config else {}
        for label, version in labels.items():
            free = self._free_labels and label not in known
            if version not in model.loaded and known.get(label) != version and not free:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {model.name}, which is not "
                    "currently available for inference",
                )

    def _change(self, config: ModelConfig) -> None:
        model = self._models.get(config.name)
        if model is None:
            self._watch_in_thread(self._add(config))
        elif model.config != config:
            model.ask(config)

    def _add(self, config: ModelConfig) -> ServedModel:
        model = ServedModel(config.name, config, self._load, self._timing, loading=self._loading)
        self._models[config.name] = model
        return model

    def _wait_for(self, models: Sequence[ServedModel], timeout: float | None) -> bool:
        """Until the models' configs, as they are now or come to be meanwhile, were tried."""
        with self._progress:
            return self._progress.wait_for(
                lambda: all(m.tried is m.config for m in models) or self._stopping.is_set(), timeout
            )

    def _watch_in_thread(self, model: ServedModel) -> None:
        thread = threading.Thread(target=self._watch, args=(model,), name=f"watch {model.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self, model: ServedModel) -> None:
        while True:
            model.wake.clear()
            if self._stopping.is_set():
                return
            asked = model.config
            # Look once, or at every turn, or never.
            look = self._timing.poll > 0 or (self._timing.poll == 0 and asked is not model.tried)
            try:
                model.poll(look)
            except Exception:
                log.exception("Polling %s failed; it is tried again", model.name)
            with self._progress:
                model.tried = asked
                self._progress.notify_all()
            model.wake.wait(self._pause(model))

    def _pause(self, model: ServedModel) -> float | None:
        """Until the next look at the folder or the next try of a failed version; None = until woken."""
        waits = [max(0.0, again - time.monotonic()) for again in model.pending()]
        waits += [self._timing.poll] if self._timing.poll > 0 else []
        return min(waits, default=None)


def why(models: Sequence[ServedModel]) -> str:
    """Why models are not served, as TensorFlow Serving lists it."""
    reasons = []
    for model in models:
        failures = [s for s in model.history() if s.code != Code.OK]
        reasons += [
            f"{{name: {model.name} version: {s.version}}} due to error: {s.code.name}: {s.message}, "
            for s in failures
        ] or [f"{{name: {model.name}}} due to error: NOT_FOUND: {model.trouble or 'not loaded'}, "]
    return "{" + "".join(reasons) + "}"
