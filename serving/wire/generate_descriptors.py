"""Writes descriptors.binpb from the installed tensorflow-serving-api and gRPC's own services:
`python -m serving.wire.generate_descriptors [FILE]`.
"""

import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

FILE = Path(__file__).with_name("descriptors.binpb")
Field = descriptor_pb2.FieldDescriptorProto

# Config messages that the package leaves out, as file -> message -> fields in order (name, type); a type that
# starts with "*" is repeated, one with a dot is a message. They are read from text, where numbers carry no
# meaning, so a field's number is its place in the list.
CONFIG_FILES: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto": {
        "BatchingParameters": (
            ("max_batch_size", "google.protobuf.Int64Value"),
            ("batch_timeout_micros", "google.protobuf.Int64Value"),
            ("max_enqueued_batches", "google.protobuf.Int64Value"),
            ("num_batch_threads", "google.protobuf.Int64Value"),
            ("thread_pool_name", "google.protobuf.StringValue"),
            ("allowed_batch_sizes", "*int64"),
            ("pad_variable_length_inputs", "bool"),
            ("enable_large_batch_splitting", "google.protobuf.BoolValue"),
            ("max_execution_batch_size", "google.protobuf.Int64Value"),
        )
    },
    "tensorflow_serving/config/monitoring_config.proto": {
        "PrometheusConfig": (("enable", "bool"), ("path", "string")),
        "MonitoringConfig": (("prometheus_config", "tensorflow.serving.PrometheusConfig"),),
    },
    "tensorflow_serving/config/ssl_config.proto": {
        "SSLConfig": (
            ("server_key", "string"),
            ("server_cert", "string"),
            ("custom_ca", "string"),
            ("client_verify", "bool"),
        )
    },
}


def generate() -> bytes:
    """The FileDescriptorSet of the services and all they use, dependencies first; imports TensorFlow."""
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import model_service_pb2, prediction_log_pb2, prediction_service_pb2
    from tensorflow_serving.config import model_server_config_pb2

    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def collect(file: Any) -> None:
        if file.name in found:
            return
        for dependency in file.dependencies:
            collect(dependency)
        found[file.name] = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(found[file.name])

    for module in (
        prediction_service_pb2,
        model_service_pb2,
        prediction_log_pb2,
        model_server_config_pb2,
        saved_model_pb2,
        health_pb2,
        reflection_pb2,
    ):
        collect(module.DESCRIPTOR)
    found |= {name: _file(name, messages) for name, messages in CONFIG_FILES.items()}
    return descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True)


def _file(name: str, messages: dict[str, Any]) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=name, package="tensorflow.serving", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for message, fields in messages.items():
        described = file.message_type.add(name=message)
        for number, (field, kind) in enumerate(fields, start=1):
            described.field.append(_field(field, number, kind))
    return file


def _field(name: str, number: int, kind: str) -> Any:
    label = Field.LABEL_REPEATED if kind.startswith("*") else Field.LABEL_OPTIONAL
    if "." in kind:
        return Field(name=name, number=number, label=label, type=Field.TYPE_MESSAGE, type_name=f".{kind}")
    scalar = Field.Type.Value(f"TYPE_{kind.lstrip('*').upper()}")
    return Field(name=name, number=number, label=label, type=scalar)


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else FILE).write_bytes(generate())
