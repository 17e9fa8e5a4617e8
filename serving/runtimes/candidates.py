"""Which files of a version may serve it, by which engine, and what each fidelity admits."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from serving.errors import Code, ServingError, invalid

SAVED_MODEL = "saved_model.pb"
GRAPHS = (SAVED_MODEL, "saved_model.pbtxt")


@dataclass(frozen=True)
class Candidate:
    """A file of a version and an engine that runs it; `precision`: of the weights or of the arithmetic,
    whichever is less.
    """

    runtime: str
    file: str
    precision: str = "f32"

    def __str__(self) -> str:
        return f"{self.runtime} {self.file}" + ("" if self.precision == "f32" else f" {self.precision}")


# What serves where nothing is measured: the first that is there.
CANDIDATES = (
    Candidate("onnx", "model.onnx"),
    Candidate("tensorflow", SAVED_MODEL),
    Candidate("litert", "model.tflite"),
    Candidate("openvino", "model.onnx"),
    # Its weights may be float16: whether it is exact is measured.
    Candidate("openvino", "model.xml"),
    Candidate("openvino", "model.onnx", "bf16"),
    Candidate("openvino", "model.xml", "bf16"),
    Candidate("litert", "model_float16.tflite", "f16"),
    Candidate("onnx", "model_int8.onnx", "int8"),
    Candidate("openvino", "model_int8.onnx", "int8"),
    Candidate("litert", "model_int8.tflite", "int8"),
    Candidate("litert", "model_dynamic.tflite", "int8"),
)
# Of the engines that need not be installed.
MODULES = {"openvino": "openvino", "litert": "ai_edge_litert"}
NAMES = tuple(dict.fromkeys(candidate.runtime for candidate in CANDIDATES))


@dataclass(frozen=True)
class Fidelity:
    """The precisions that may serve, and how near their numbers must be to the reference's: the largest
    difference, relative to the largest number or to 1; or the least cosine of a row of numbers, which is the
    measure for numbers that are rounded (the limits of the exports).
    """

    precisions: tuple[str, ...]
    difference: float | None = None
    cosine: float | None = None


FIDELITIES = {
    "exact": Fidelity(("f32",), difference=1e-4),
    "bf16": Fidelity(("f32", "f16", "bf16"), cosine=0.99),
    "int8": Fidelity(("f32", "f16", "bf16", "int8"), cosine=0.95),
}


def found(
    version_dir: Path, fidelity: str = "exact", runtime: str | None = None, tflite: bool = False
) -> list[Candidate]:
    """What may serve a version, at least one, the preferred first: of one `runtime`, the least precise that
    is admitted. With `tflite` that runtime is LiteRT, where one of its files is admitted.

    OpenVINO and LiteRT count where they are installed; TensorFlow runs LiteRT's files where nothing else
    would do.

    Raises ServingError: INVALID_ARGUMENT for an unknown name, NOT_FOUND or FAILED_PRECONDITION for a version
    without such a file.
    """
    check_names(fidelity, runtime)
    precisions = FIDELITIES[fidelity].precisions
    there = [candidate for candidate in CANDIDATES if _is_there(version_dir, candidate)]
    admitted = [candidate for candidate in there if candidate.precision in precisions]
    if tflite and any(candidate.runtime == "litert" for candidate in admitted):
        runtime = "litert"
    ours = [candidate for candidate in admitted if runtime in (None, candidate.runtime)]
    usable = [candidate for candidate in ours if _installed(candidate)]
    usable = usable or [candidate for candidate in ours if candidate.runtime == "litert"]
    if not usable:
        raise _nothing(version_dir, fidelity, runtime, there)
    if runtime:
        usable.sort(key=lambda candidate: -precisions.index(candidate.precision))
    return usable


def check_names(fidelity: str, runtime: str | None = None) -> None:
    """INVALID_ARGUMENT, with the names there are, for an unknown fidelity or runtime."""
    if runtime and runtime not in NAMES:
        raise invalid(f"No runtime is named {runtime}; there are {', '.join(NAMES)}")
    if fidelity not in FIDELITIES:
        raise invalid(f"No fidelity is named {fidelity}; there are {', '.join(FIDELITIES)}")


def _is_there(version_dir: Path, candidate: Candidate) -> bool:
    names: Sequence[str] = GRAPHS if candidate.file == SAVED_MODEL else (candidate.file,)
    return any((version_dir / name).is_file() for name in names)


def _installed(candidate: Candidate) -> bool:
    module = MODULES.get(candidate.runtime)
    return module is None or find_spec(module) is not None


def _nothing(
    version_dir: Path, fidelity: str, runtime: str | None, there: Sequence[Candidate]
) -> ServingError:
    if not there:
        wanted = ", ".join(dict.fromkeys(candidate.file for candidate in CANDIDATES[1:]))
        return ServingError(
            Code.NOT_FOUND,
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {version_dir}; "
            f"model.onnx would do too, as would one of {wanted}",
        )
    ours = [candidate for candidate in there if runtime in (None, candidate.runtime)]
    files = ", ".join(dict.fromkeys(candidate.file for candidate in ours or there))
    if not ours:
        wanted = ", ".join(dict.fromkeys(c.file for c in CANDIDATES if c.runtime == runtime))
        reason = f"{runtime} needs one of {wanted}"
    elif not any(_installed(candidate) for candidate in ours):
        reason = "OpenVINO runs that; install it: pip install cnn-zoo[openvino]"
    else:
        reason = f"--fidelity={fidelity} does not admit that, --fidelity={_least(ours)} does"
    return ServingError(Code.FAILED_PRECONDITION, f"{version_dir} holds {files}; {reason}")


def _least(there: Sequence[Candidate]) -> str:
    """The strictest fidelity that admits one of the candidates."""
    return next(
        name
        for name, fidelity in FIDELITIES.items()
        if any(candidate.precision in fidelity.precisions for candidate in there)
    )
