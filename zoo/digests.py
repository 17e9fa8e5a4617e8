"""What a file is told apart by."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file; about a second per gigabyte."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """The hexadecimal "sha256", "sha1" or "md5" of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
