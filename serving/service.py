"""The prediction service: what gRPC and REST both ask for, checked in TensorFlow Serving's order and worded
as it does.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from serving.errors import Code, ServingError, UnknownSignatureError, invalid
from serving.lifecycle import Loaded, Models, VersionStatus
from serving.runtimes import Signature

log = logging.getLogger("serving")
T = TypeVar("T")

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class ModelSpec:
    """Which model a request means: by version, by label, or the newest; "" is the default signature."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""


@dataclass(frozen=True)
class Prediction:
    """The outputs of a signature, with the version and the signature's name that gave them."""

    version: int
    signature: str
    outputs: Mapping[str, np.ndarray]


Feed = Callable[[Signature], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class PredictionService:
    """Answers the requests of both faces on the models that are loaded."""

    models: Models

    def predict(self, spec: ModelSpec, feed: Feed, output_filter: Sequence[str] = ()) -> Prediction:
        """Runs a signature on the arrays that `feed` reads from the request once the signature is known.

        Raises ServingError: NOT_FOUND for the model or version, FAILED_PRECONDITION for the signature,
        INVALID_ARGUMENT for inputs and output names.
        """
        with self._pin(spec) as held:
            name = spec.signature or DEFAULT_SIGNATURE
            signature = held.runtime.signatures.get(name)
            if signature is None:
                raise UnknownSignatureError(name)
            inputs = feed(signature)
            wanted = _outputs(signature, output_filter)
            return Prediction(held.version, name, _run(held, name, inputs, wanted))

    def metadata(self, spec: ModelSpec, fields: Sequence[str]) -> tuple[int, Mapping[str, Signature]]:
        """The version and signatures of a model; `fields` may hold "signature_def" only."""
        if not fields:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in fields:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        with self._pin(spec) as held:
            return held.version, held.runtime.signatures

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The state of one version, or of every version ever seen, newest first; NOT_FOUND when there is
        none.
        """
        model = self.models.all().get(name)
        history = model.history() if model else []
        found = [status for status in history if version in (None, status.version)]
        if not found and version is not None:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return found

    @contextmanager
    def _pin(self, spec: ModelSpec) -> Iterator[Loaded]:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.label is not None:
            raise invalid(f"Unrecognized servable version label: {spec.label}")
        with self.models.find(spec.name, spec.version).pin(spec.version) as held:
            yield held


def bind(
    signature: Signature, inputs: Mapping[str, T], parse: Callable[[T, str], np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays of a signature's inputs, checked by name, parsed one by one, and completed with its
    defaults.
    """
    given, declared = set(inputs), set(signature.inputs)
    if len(given) > len(declared) or (len(given) < len(declared) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(declared)} len({_set(given)}) != "
            f"len({_set(declared)}). Sent extra: {_set(given - declared)}. "
            f"Missing but required: {_set(declared - given)}."
        )
    bound = {}
    for alias, spec in signature.inputs.items():
        if alias in inputs:
            bound[alias] = parse(inputs[alias], alias)
        elif alias in signature.defaults:
            bound[alias] = signature.defaults[alias]
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {spec.name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {_set(declared)}, or default input "
                f"alias set: {_set(signature.defaults)}"
            )
    if given - declared:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_set(given & declared)}, "
            f"request input: {_set(given)}"
        )
    return bound


def _outputs(signature: Signature, output_filter: Sequence[str]) -> Sequence[str]:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return output_filter or list(signature.outputs)


def _run(
    held: Loaded, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> Mapping[str, np.ndarray]:
    try:
        return held.runtime.run(signature, inputs, outputs)
    except ServingError:
        raise
    except Exception as error:
        log.exception("Running %s of version %d failed", signature, held.version)
        raise ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error


def _set(names: Mapping[str, object] | set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
