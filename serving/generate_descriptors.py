"""Writes descriptors.binpb from the installed tensorflow-serving-api: `python -m serving.generate_descriptors
[FILE]`.
"""

import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

FILE = Path(__file__).with_name("descriptors.binpb")


def generate() -> bytes:
    """The FileDescriptorSet of both services and all they use, dependencies first; imports TensorFlow."""
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def collect(file: Any) -> None:
        if file.name in found:
            return
        for dependency in file.dependencies:
            collect(dependency)
        found[file.name] = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(found[file.name])

    for module in (prediction_service_pb2, model_service_pb2):
        collect(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True)


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else FILE).write_bytes(generate())
