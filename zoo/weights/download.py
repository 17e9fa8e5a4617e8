"""One file over HTTP: resumed after a break, its hash checked, and there whole or not at all."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
from rich.progress import TextColumn

from zoo.digests import digest_of, sha256_of
from zoo.errors import DownloadError, WeightsError, ZooError
from zoo.progress import progress
from zoo.weights import archives

CHUNK = 1 << 16  # bytes; what a break can cost beyond itself
LIMIT = 8 << 30  # bytes; no published set of weights comes near it
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
PAUSES = (0.0, 0.5, 1.0, 2.0)  # seconds before each further attempt
PASSING = (408, 425, 429, 500, 502, 503, 504)  # states of a server that may soon be over


@dataclass(frozen=True)
class _Job:
    url: str
    destination: Path
    published: Callable[[requests.Response], str]
    headers: Mapping[str, str]
    limit: int

    @property
    def part(self) -> Path:
        return self.destination.with_name(f"{self.destination.name}.part")

    @property
    def unpacked(self) -> Path:
        """Where the file of a .zip goes before its hash is known to be right."""
        return self.destination.with_name(f"{self.destination.name}.part.unpacked")

    @property
    def memo(self) -> Path:
        """The URL and the validator (ETag) that the partial file belongs to."""
        return self.destination.with_name(f"{self.destination.name}.part.etag")

    def failure(self, reason: str) -> DownloadError:
        return DownloadError(f"{self.url}: {reason}. To go on without it, put the file at {self.destination}")


class _BrokenError(Exception):
    """An attempt failed in a way that another may not."""


def download(
    url: str,
    destination: Path,
    *,
    sha256: str = "",
    stated: Mapping[str, str] | None = None,
    published: Callable[[requests.Response], str] = lambda _: "",
    headers: Mapping[str, str] | None = None,
    limit: int = LIMIT,
) -> Path:
    """Fetch the URL to `destination`, its hash to `destination`.sha256; an existing destination stays.

    Of a .zip, the one file inside is what is wanted, and what the hashes are of. sha256: the hexadecimal hash
    or a prefix of it; without one, what `published` finds in the answer's headers. stated: other hashes by
    algorithm, {"md5": ...}, where upstream publishes those. headers are sent with the request; where it is
    redirected to another host, Authorization is not. At most `limit` bytes. The bytes go to
    `destination`.part first, which a later call resumes if the server still has the same file (ETag);
    processes that want the same destination take turns (POSIX file locks). Proxies are those of the
    environment (HTTPS_PROXY, NO_PROXY ...). Raises DownloadError when the file cannot be had (at once when
    ZOO_OFFLINE is set), WeightsError when its hash differs; then nothing is kept.
    """
    job = _Job(url, destination, published, headers or {}, limit)
    if offline():
        raise job.failure("not asked for, because ZOO_OFFLINE is set")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone(job.part) as file:
            if destination.exists():
                job.part.unlink()
                return destination
            found = _fetch(job, file)
            _publish(job, {"sha256": sha256 or found, **(stated or {})})
    except ZooError:
        raise
    except requests.RequestException as error:
        raise job.failure(_reason(error)) from error
    except OSError as error:
        raise DownloadError(f"{url}: cannot be written to {destination.parent}: {error}") from error
    return destination


def offline() -> bool:
    """Whether the environment forbids the network: ZOO_OFFLINE is set, and not to 0."""
    return os.environ.get("ZOO_OFFLINE", "0") not in ("", "0")


def record_of(path: Path) -> Path:
    """Where the sha256 of a downloaded file is kept, in the format of sha256sum."""
    return path.with_name(f"{path.name}.sha256")


@contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """The partial file, open for appending, while no other process has it."""
    import fcntl  # not on Windows, where all but downloading works

    while True:
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held the lock before may have renamed or removed the file that was waited for.
            if _is_at(part, file):
                try:
                    yield file
                finally:
                    if file.seek(0, os.SEEK_END) == 0 and _is_at(part, file):
                        part.unlink()
                return


def _is_at(path: Path, file: BinaryIO) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _fetch(job: _Job, file: BinaryIO) -> str:
    """Fill the file, in a few attempts; returns the hash that the server publishes, or ''."""
    for pause in (*PAUSES, None):
        try:
            return _attempt(job, file)
        except (
            _BrokenError,
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            if pause is None:
                raise job.failure(f"{_reason(error)}, {len(PAUSES) + 1} times") from error
            time.sleep(pause)
    raise AssertionError("unreachable")


def _attempt(job: _Job, file: BinaryIO) -> str:
    have = file.seek(0, os.SEEK_END)
    with requests.get(job.url, headers=_headers(job, have), stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{have}":
            return job.published(answer)
        _refuse(job, answer)
        if answer.status_code != 206:
            have = file.truncate(0)
            job.memo.write_text(f"{job.url}\n{answer.headers.get('ETag', '')}")
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            file.truncate(0)
            raise _BrokenError("the server sent another range than asked for")
        _pour(job, answer, file, have)
        return job.published(answer)


def _headers(job: _Job, have: int) -> dict[str, str]:
    # A transfer encoding would make the ranges those of other bytes.
    headers = {**job.headers, "Accept-Encoding": "identity"}
    url, _, validator = (job.memo.read_text() if job.memo.exists() else "").partition("\n")
    if have and url == job.url and validator.startswith('"'):
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    return headers


def _refuse(job: _Job, answer: requests.Response) -> None:
    """Raise for an answer that does not bring the file."""
    status = f"the server answered {answer.status_code} {answer.reason}"
    if answer.history:
        status += f" (after a redirect to {answer.url.partition('?')[0]})"
    if answer.status_code in PASSING:
        raise _BrokenError(status)
    if answer.status_code == 416:
        job.memo.unlink(missing_ok=True)
        raise _BrokenError(status)
    if answer.status_code not in (200, 206):
        raise job.failure(status)
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise job.failure(
            "the server sent an HTML page, not weights; does a login page or a proxy stand between?"
        )


def _pour(job: _Job, answer: requests.Response, file: BinaryIO, have: int) -> None:
    length = answer.headers.get("Content-Length", "")
    total = have + int(length) if re.fullmatch(r"\d+", length) else None
    if (total or 0) > job.limit:
        raise job.failure(f"refused: {total} bytes are more than the limit of {job.limit}")
    size = f" ({total / 1e6:.0f} MB)" if total else ""
    with progress(TextColumn("{task.percentage:>3.0f} %")) as bar:
        task = bar.add_task(f"{job.destination.name}{size}", total=total, completed=have)
        for chunk in answer.iter_content(CHUNK):
            have += len(chunk)
            if have > job.limit:
                raise job.failure(f"refused: the file has more than {job.limit} bytes")
            file.write(chunk)
            bar.advance(task, len(chunk))
    file.flush()
    if total is not None and have < total:
        raise _BrokenError(f"the connection broke off after {have} of {total} bytes")


def _publish(job: _Job, expected: dict[str, str]) -> None:
    """Rename the file if its hashes start with the expected ones, by algorithm; '' fits every file."""
    job.memo.unlink(missing_ok=True)
    with _arrived(job) as arrived:
        for algorithm, start in expected.items():
            digest = digest_of(arrived, algorithm) if start else ""
            if not digest.startswith(start.lower()):
                raise WeightsError(
                    f"{job.url}: the {algorithm} of what came is {digest}, not {start}; it was removed. "
                    f"Try again, and if it stays so, the file has been replaced or tampered with"
                )
        record_of(job.destination).write_text(f"{sha256_of(arrived)}  {job.destination.name}\n")
        os.replace(arrived, job.destination)


@contextmanager
def _arrived(job: _Job) -> Iterator[Path]:
    """The file that came, or the one inside the .zip that came; nothing of a wrong one stays."""
    try:
        if job.url.endswith(".zip"):
            archives.unpack_only(job.part, job.unpacked)
            yield job.unpacked
            job.part.unlink()
        else:
            yield job.part
    except WeightsError:
        job.part.unlink()
        raise
    finally:
        job.unpacked.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """What went wrong, without the library names that urllib3 wraps around it."""
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    return re.sub(r"^<?[\w.]+(\(.*?\)| object at \w+>): ", "", str(cause)) or type(error).__name__
