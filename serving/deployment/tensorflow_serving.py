"""What the stock image of TensorFlow Serving can serve."""

from collections.abc import Sequence
from pathlib import Path

from serving.errors import DeployError
from serving.folders import by_name, versions

# The newest image when this was written: https://github.com/tensorflow/serving/releases
RELEASE = "2.20.0"


def saved_models(folders: Sequence[str | Path]) -> dict[str, Path]:
    """BASE/NAME folders by name; DeployError where the newest version has no SavedModel."""
    found = by_name(folders)
    for path in found.values():
        newest = versions(path)[0]
        if not (newest / "saved_model.pb").is_file():
            raise DeployError(
                f"{newest} has no SavedModel, the one format TensorFlow Serving runs: export it with "
                '--formats saved_model, or serve it with "zoo serve", --to docker-zoo or --to ray'
            )
    return found
