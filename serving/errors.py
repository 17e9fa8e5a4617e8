"""What a caller of a served model can act on: a canonical code, as gRPC and TensorFlow Serving number them,
and a message.
"""

from enum import IntEnum

from zoo.errors import ZooError


class Code(IntEnum):
    """The canonical status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(ZooError):
    """A request that was refused or failed: `code` is the canonical status, `message` says why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class UnknownSignatureError(ServingError):
    """The model has no signature of this name, which travels along: gRPC and REST word it differently."""

    def __init__(self, signature: str) -> None:
        super().__init__(Code.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        self.signature = signature


class DeployError(ZooError):
    """A server process could not be started; the message ends with the last lines of its log."""


def invalid(message: str) -> ServingError:
    """The commonest refusal: the request itself is wrong."""
    return ServingError(Code.INVALID_ARGUMENT, message)
