"""Pictures from addresses, for a client that was told to fetch them: by HTTP, limited in size and time."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from zoo.errors import DataError

if TYPE_CHECKING:
    import requests

LIMIT = 64 << 20  # bytes of a picture
REDIRECTS = 5

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE | re.ASCII)


def is_address(text: object) -> bool:
    """Whether it is text that begins with a scheme, as https://."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def fetch(address: str, seconds: float, limit: int = LIMIT) -> bytes:
    """What lies at an http:// or https:// address.

    Redirects lead from HTTP to HTTPS, or to the same scheme, and nowhere else. Raises DataError naming the
    address: another scheme, an HTTP error, more than `limit` bytes, or more than `seconds` in all.
    """
    import requests

    end = time.monotonic() + seconds
    here = address
    with requests.Session() as session:
        for _ in range(REDIRECTS + 1):
            _check_scheme(address, here)
            try:
                # Not by requests itself, which would follow from HTTPS to HTTP.
                with session.get(here, stream=True, timeout=seconds, allow_redirects=False) as answer:
                    if answer.is_redirect:
                        there = urljoin(here, answer.headers["location"])
                        _check_step(address, here, there)
                        here = there
                        continue
                    answer.raise_for_status()
                    return _body(address, answer, end, limit)
            except requests.RequestException as error:
                raise DataError(f'"{address}" cannot be fetched: {error}') from error
    raise DataError(f'"{address}" cannot be fetched: more than {REDIRECTS} redirects')


def _check_scheme(address: str, here: str) -> None:
    if urlsplit(here).scheme not in ("http", "https"):
        raise DataError(f'"{address}" is not fetched: {here} is neither http:// nor https://')


def _check_step(address: str, here: str, there: str) -> None:
    if urlsplit(here).scheme == "https" and urlsplit(there).scheme == "http":
        raise DataError(f'"{address}" is not fetched: it redirects from HTTPS to {there}')


def _body(address: str, answer: requests.Response, end: float, limit: int) -> bytes:
    body = bytearray()
    for chunk in answer.iter_content(64 << 10):
        body += chunk
        if len(body) > limit:
            raise DataError(f'"{address}" is larger than {limit} bytes')
        if time.monotonic() > end:
            raise DataError(f'"{address}" took too long')
    return bytes(body)
