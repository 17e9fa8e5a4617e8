"""Predict, Classify and Regress on one loaded model: TensorFlow Serving's checks, in its order and words."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from serving.errors import Code, ServingError, UnknownSignatureError, invalid
from serving.runtimes import Runtime, Signature
from serving.runtimes.base import CLASSIFY, PREDICT, REGRESS
from serving.wire.tensors import of_array

log = logging.getLogger("serving")
T = TypeVar("T")

DEFAULT_SIGNATURE = "serving_default"

Arrays = Mapping[str, np.ndarray]
Feed = Callable[[Signature], Arrays]


@dataclass(frozen=True)
class Class:
    """A label and its score; the half that a model does not give is "" or 0."""

    label: str
    score: float


# --- Predict ------------------------------------------------------------------------------------------------


def predict(
    runtime: Runtime, signature: str, feed: Feed, output_filter: Sequence[str] = (), strict: bool = False
) -> Arrays:
    """Runs a signature on the arrays that `feed` reads from the request once the signature is known.

    `strict` checks the signature's method name. Raises ServingError: FAILED_PRECONDITION for the signature,
    INVALID_ARGUMENT for inputs and output names.
    """
    definition = runtime.signatures.get(signature)
    if definition is None:
        raise UnknownSignatureError(signature)
    if strict and definition.method_name not in (PREDICT, CLASSIFY, REGRESS):
        raise ServingError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {_set({PREDICT, CLASSIFY, REGRESS})}. "
            f"Was: {definition.method_name}",
        )
    inputs = feed(definition)
    return run(runtime, signature, inputs, _outputs(definition, output_filter))


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


def run(runtime: Runtime, signature: str, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
    """The named outputs; whatever an engine raises becomes a ServingError."""
    try:
        results = runtime.run(signature, inputs, outputs)
    except ServingError:
        raise
    except Exception as error:
        log.exception("Running %s failed", signature)
        raise ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error
    if len(results) != len(outputs):
        raise ServingError(Code.UNKNOWN, "Predict internal error")
    return results


# --- Classify -----------------------------------------------------------------------------------------------


def classify(
    runtime: Runtime, signature: str, examples: Sequence[bytes], strict: bool = False
) -> list[list[Class]]:
    """The classes of each serialised tf.Example, in the model's own order."""
    definition = _known(runtime, signature)
    outputs = classification_outputs(definition, strict)
    results = _on_examples(runtime, signature, examples, outputs)
    return classes(results.get("classes"), results.get("scores"), len(examples))


def classification_outputs(signature: Signature, strict: bool) -> list[str]:
    """Which of `classes` and `scores` the signature gives; INVALID_ARGUMENT when it cannot classify."""
    if strict and signature.method_name != CLASSIFY:
        raise invalid(
            f"Expected classification signature method_name to be {CLASSIFY}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {described(signature)}")
    outputs = [alias for alias in ("classes", "scores") if alias in signature.outputs]
    if not outputs:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {described(signature)}"
        )
    return outputs


def classes(labels: np.ndarray | None, scores: np.ndarray | None, count: int) -> list[list[Class]]:
    """A row of classes per example of `labels` string [count, C] and `scores` float [count, C], either of
    which may be missing.
    """
    if labels is not None and labels.dtype != object:
        raise invalid(f"Expected classes Tensor of DT_STRING. Got: {_type(labels)}")
    if scores is not None and scores.dtype != np.float32:
        raise invalid(f"Expected scores Tensor of DT_FLOAT. Got: {_type(scores)}")
    for name, array in (("classes", labels), ("scores", scores)):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_dims(array)}")
        if len(array) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise invalid(
            "Tensors class and score should match in dim_size(1). "
            f"Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    texts = np.full(scores.shape, b"", object) if labels is None and scores is not None else labels
    numbers = np.zeros(labels.shape, np.float32) if scores is None and labels is not None else scores
    return [
        [Class(_text(label), score) for label, score in zip(row, values, strict=True)]
        for row, values in zip(_lists(texts), _lists(numbers), strict=True)
    ]


# --- Regress ------------------------------------------------------------------------------------------------


def regress(runtime: Runtime, signature: str, examples: Sequence[bytes], strict: bool = False) -> list[float]:
    """The value of each serialised tf.Example."""
    definition = _known(runtime, signature)
    check_regression(definition, strict)
    return values(_on_examples(runtime, signature, examples, ["outputs"])["outputs"], len(examples))


def check_regression(signature: Signature, strict: bool) -> None:
    """INVALID_ARGUMENT when the signature cannot regress."""
    if strict and signature.method_name != REGRESS:
        raise invalid(
            f"Expected regression signature method_name to be {REGRESS}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {described(signature)}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {described(signature)}")


def values(outputs: np.ndarray, count: int) -> list[float]:
    """A number per example of `outputs` float [count] or [count, 1]."""
    if outputs.ndim not in (1, 2) or (outputs.ndim == 2 and outputs.shape[1] != 1):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {_dims(outputs)}"
        )
    if len(outputs) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(outputs)}")
    if outputs.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_type(outputs)}")
    return outputs.reshape(-1).tolist()


# --- shared -------------------------------------------------------------------------------------------------


def _known(runtime: Runtime, signature: str) -> Signature:
    definition = runtime.signatures.get(signature)
    if definition is None:
        raise invalid(f"No signature was found with the name: {signature}")
    return definition


def _on_examples(
    runtime: Runtime, signature: str, examples: Sequence[bytes], outputs: Sequence[str]
) -> Arrays:
    if not examples:
        raise invalid("Input is empty.")
    serialised = np.empty(len(examples), object)
    serialised[:] = examples
    return run(runtime, signature, {"inputs": serialised}, outputs)


def described(signature: Signature) -> str:
    """A signature in one line, for messages."""
    inputs = ", ".join(f"{alias}: {spec}" for alias, spec in sorted(signature.inputs.items()))
    outputs = ", ".join(f"{alias}: {spec}" for alias, spec in sorted(signature.outputs.items()))
    return f"inputs {{{inputs}}} outputs {{{outputs}}} method_name: {signature.method_name}"


def _text(label: bytes | str) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else label


def _lists(array: np.ndarray | None) -> list[list]:
    return [] if array is None else array.tolist()


def _type(array: np.ndarray) -> str:
    return f"DT_{of_array(array).name.upper()}"


def _dims(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _set(names: Mapping[str, object] | set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
