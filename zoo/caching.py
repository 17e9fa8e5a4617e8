"""Where this machine keeps what was downloaded or measured."""

import os
from pathlib import Path

import platformdirs


def folder() -> Path:
    """The cache folder: ZOO_CACHE, or the platform's place for caches (on Linux ~/.cache/zoo)."""
    return Path(os.environ.get("ZOO_CACHE") or platformdirs.user_cache_dir("zoo")).expanduser()
