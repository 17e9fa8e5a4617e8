"""A model's folder, BASE/NAME, which holds its versions as BASE/NAME/1."""

from collections.abc import Sequence
from pathlib import Path

from serving.errors import DeployError


def by_name(base_paths: Sequence[str | Path]) -> dict[str, Path]:
    """The folders by model name, which is the folder's own; DeployError for none, for two of one name, or for
    one without versions.
    """
    found: dict[str, Path] = {}
    for given in base_paths:
        path = Path(given).resolve()
        if path.name in found:
            raise DeployError(
                f"Two models are named {path.name}: {found[path.name]} and {path}; rename one folder"
            )
        found[path.name] = path
    if not found:
        raise DeployError("No model folder was given")
    for path in found.values():
        versions(path)
    return found


def is_version(name: str) -> bool:
    """Whether a folder of this name is a version: a number, of fewer digits than Python refuses to read."""
    return name.isascii() and name.isdecimal() and len(name) < 99


def versions(path: Path) -> list[Path]:
    """The folders of its versions, the newest first; DeployError where there are none."""
    if not path.is_dir():
        raise DeployError(
            f"{path} is no folder: give BASE/NAME, which holds versions as BASE/NAME/1{_if_unexported(path)}"
        )
    found = _versions(path)
    if not found:
        raise DeployError(
            f"{path} holds no version (a folder named by a number, as {path}/1): {_instead(path)}"
        )
    return sorted(found, key=lambda version: int(version.name), reverse=True)


def _versions(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if is_version(child.name) and child.is_dir()]


def _instead(path: Path) -> str:
    """What who gave a folder without versions may have meant."""
    if is_version(path.name):
        return "give the folder above it"
    models = [child for child in sorted(path.iterdir()) if child.is_dir() and _versions(child)]
    if models:
        return f"give the models in it, as {models[0]}"
    return f"export a model there first{_if_unexported(path)}"


# What fine-tuning, timm, transformers, KerasHub and Keras write, which is not served as it is.
MODELS = ("model.keras", "config.json")


def _if_unexported(path: Path) -> str:
    is_file = path.suffix in (".keras", ".h5") and path.is_file()
    is_model = is_file or any((path / name).is_file() for name in MODELS)
    return f"; zoo export {path} models/{path.stem} makes such a folder of this model" if is_model else ""
