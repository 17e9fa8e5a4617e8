"""Downloaded weights on disk: one folder, every file with its sha256 beside it, verified at each use."""

from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from zoo.caching import folder
from zoo.digests import digest_of, sha256_of
from zoo.errors import WeightsError
from zoo.weights.download import LIMIT, download, record_of


def fetch(
    url: str,
    name: str,
    *,
    sha256: str = "",
    stated: Mapping[str, str] | None = None,
    published: Callable[[requests.Response], str] = lambda _: "",
    headers: Mapping[str, str] | None = None,
    limit: int = LIMIT,
) -> Path:
    """The file `name` (a relative path) of the cache, downloaded from the URL if it is not there yet.

    sha256, stated, published, headers and limit as in `download`. A file that is there is not asked for
    again, but read once to compare its hash with the recorded and the given one. Raises DownloadError;
    WeightsError when a hash differs, and the file is removed.
    """
    path = folder() / name
    if path.exists():
        return verified(path, sha256, stated)
    return download(
        url, path, sha256=sha256, stated=stated, published=published, headers=headers, limit=limit
    )


def verified(path: Path, sha256: str = "", stated: Mapping[str, str] | None = None) -> Path:
    """The path, if its hash is the recorded and the given one; else the file is removed: WeightsError.

    A file without a record, put there by hand, gets one if its other hashes are the stated ones.
    """
    record = record_of(path)
    known = record.read_text().partition(" ")[0] if record.exists() else ""
    digest = sha256_of(path)
    for expected in (known, sha256.lower()):
        _refuse_unless(path, "sha256", digest, expected)
    if not known:
        for algorithm, expected in (stated or {}).items():
            _refuse_unless(path, algorithm, digest_of(path, algorithm), expected.lower())
        record.write_text(f"{digest}  {path.name}\n")
    return path


def _refuse_unless(path: Path, algorithm: str, digest: str, expected: str) -> None:
    if not digest.startswith(expected):
        discard(path)
        raise WeightsError(
            f"{path}: damaged: its {algorithm} is {digest}, not {expected}. It was removed from the cache; "
            f"the next call downloads it again"
        )


def discard(path: Path) -> bool:
    """Remove a file and its record if they belong to the cache; returns whether they did."""
    if not path.resolve().is_relative_to(folder().resolve()):
        return False
    path.unlink(missing_ok=True)
    record_of(path).unlink(missing_ok=True)
    return True
