"""TLS, and mutual TLS, for both faces: from the PEM texts of TensorFlow Serving's --ssl_config_file."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.errors import invalid
from serving.models.config import read_ssl


@dataclass(frozen=True)
class Tls:
    """A server's key and certificate chain, the authorities that clients' certificates are checked with, and
    whether every client must show one. PEM texts.
    """

    key: str = field(repr=False)
    certificate: str
    authorities: str = ""
    verify_clients: bool = False

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC port."""
        return grpc.ssl_server_credentials(
            [(self.key.encode(), self.certificate.encode())],
            self.authorities.encode() or None,
            self.verify_clients,
        )

    def context(self) -> ssl.SSLContext:
        """For the REST port; INVALID_ARGUMENT when a PEM text is none, or key and certificate do not fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            with _file(self.certificate) as certificate, _file(self.key) as key:
                context.load_cert_chain(certificate, key)
            if self.authorities:
                context.load_verify_locations(cadata=self.authorities)
        except (ssl.SSLError, ValueError) as error:
            raise invalid(f"The certificates cannot be used: {error}") from error
        if self.verify_clients:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def read(file: str | Path) -> Tls:
    """The settings in a text-proto SSLConfig; INVALID_ARGUMENT when it is broken or lacks what it needs."""
    return from_proto(read_ssl(file))


def from_proto(proto: Any) -> Tls:
    """The settings of an SSLConfig message."""
    tls = Tls(proto.server_key, proto.server_cert, proto.custom_ca, proto.client_verify)
    if not tls.key or not tls.certificate:
        raise invalid("ssl_config_file needs server_key and server_cert, as PEM texts")
    if tls.verify_clients and not tls.authorities:
        raise invalid("ssl_config_file asks for client_verify: it needs custom_ca, as a PEM text")
    # gRPC would only say that it cannot bind the port.
    tls.context()
    return tls


@contextmanager
def _file(text: str) -> Iterator[str]:
    """A file that only this user reads, for as long as the context lasts: ssl takes chains by path only."""
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        yield path
    finally:
        Path(path).unlink()
