"""The prediction service: what gRPC and REST both ask for, on the models that are loaded."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serving.errors import Code, ServingError, invalid
from serving.models import inference
from serving.models.inference import DEFAULT_SIGNATURE, Arrays, Class, Feed
from serving.models.lifecycle import Models
from serving.models.versions import Loaded, ModelConfig, VersionStatus
from serving.runtimes import Signature
from serving.runtimes.base import CLASSIFY, REGRESS

T = TypeVar("T")


@dataclass(frozen=True)
class ModelSpec:
    """Which model a request means: by version, by label, or the newest; "" is the default signature."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

    @property
    def resolved(self) -> str:
        """The signature's name, never empty."""
        return self.signature or DEFAULT_SIGNATURE


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a signature gave (arrays by alias, classes or values per example), with the version and the
    signature's name that gave it.
    """

    version: int
    signature: str
    outputs: T


@dataclass(frozen=True)
class Served:
    """A request and its answer. `kind` is predict, classify, regress or multi_inference; `asked` the arrays
    by alias, the serialised tf.Examples, or the tasks and the examples; `answer` one Answer, or one per task.
    """

    kind: str
    spec: ModelSpec
    asked: Any
    answer: Any
    outputs: Sequence[str] = ()


@dataclass(frozen=True)
class PredictionService:
    """Answers the requests of both faces; `strict` checks method names
    (--enable_signature_method_name_check). `hear` is told of every answer. One of several `workers` cannot
    reload: the others would not know.
    """

    models: Models
    strict: bool = False
    hear: Callable[[Served], None] = lambda served: None
    workers: int = 1

    def predict(self, spec: ModelSpec, feed: Feed, output_filter: Sequence[str] = ()) -> Answer[Arrays]:
        """Runs a signature on the arrays that `feed` reads from the request once the signature is known.

        Raises ServingError: NOT_FOUND for the model or version, FAILED_PRECONDITION for the signature,
        INVALID_ARGUMENT for inputs and output names.
        """
        with self._pin(spec) as held:
            asked: dict[str, Any] = {}

            def remembered(signature: Signature) -> Arrays:
                asked.update(feed(signature))
                return asked

            outputs = inference.predict(held.runtime, spec.resolved, remembered, output_filter, self.strict)
            answer = Answer(held.version, spec.resolved, outputs)
            self.hear(Served("predict", spec, asked, answer, output_filter))
            return answer

    def classify(self, spec: ModelSpec, examples: Sequence[bytes]) -> Answer[list[list[Class]]]:
        """The classes of serialised tf.Examples; INVALID_ARGUMENT where a signature cannot classify."""
        with self._pin(spec) as held:
            rows = inference.classify(held.runtime, spec.resolved, examples, self.strict)
            answer = Answer(held.version, spec.resolved, rows)
            self.hear(Served("classify", spec, examples, answer))
            return answer

    def regress(self, spec: ModelSpec, examples: Sequence[bytes]) -> Answer[list[float]]:
        """The values of serialised tf.Examples; INVALID_ARGUMENT where a signature cannot regress."""
        with self._pin(spec) as held:
            values = inference.regress(held.runtime, spec.resolved, examples, self.strict)
            answer = Answer(held.version, spec.resolved, values)
            self.hear(Served("regress", spec, examples, answer))
            return answer

    def multi_inference(
        self, tasks: Sequence[tuple[ModelSpec, str]], examples: Sequence[bytes]
    ) -> list[Answer[Any]]:
        """An answer per task, a model and "tensorflow/serving/classify" or "tensorflow/serving/regress", all
        of one model on the same examples.
        """
        with self._pin(tasks[0][0] if tasks else ModelSpec("")) as held:
            _check_tasks(held, tasks)
            answers = [
                Answer(held.version, spec.resolved, _METHODS[method](held.runtime, spec.resolved, examples))
                for spec, method in tasks
            ]
            self.hear(Served("multi_inference", tasks[0][0], (tasks, examples), answers))
            return answers

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
        history = self.models.history(name)
        found = [status for status in history if version in (None, status.version)]
        if not found and version is not None:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return found

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models and no others; returns once each new one was tried. FAILED_PRECONDITION, and
        nothing changes, for a label of a version that is not available, or where there are several workers;
        UNKNOWN names new models that could not be loaded.
        """
        if self.workers > 1:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"HandleReloadConfigRequest would reach one of {self.workers} workers: start the server with "
                "one, or have it follow a file (--model_config_file, --model_config_file_poll_wait_seconds)",
            )
        self.models.reload(configs)

    def _pin(self, spec: ModelSpec) -> AbstractContextManager[Loaded]:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        return self.models.pin(spec.name, spec.version, spec.label)


_METHODS: Mapping[str, Any] = {CLASSIFY: inference.classify, REGRESS: inference.regress}


def _check_tasks(held: Loaded, tasks: Sequence[tuple[ModelSpec, str]]) -> None:
    seen: set[str] = set()
    for spec, method in tasks:
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if spec.name != tasks[0][0].name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if spec.resolved in seen:
            raise invalid(f"Duplicate evaluation of signature: {spec.resolved}")
        seen.add(spec.resolved)
        if spec.resolved not in held.runtime.signatures:
            raise invalid(f"Requested signature not found in model graph: {spec.resolved}")
        if method not in _METHODS:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
