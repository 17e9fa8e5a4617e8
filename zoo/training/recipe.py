"""What fine-tuning does, as numbers: one frozen object, printed, saved and compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from zoo.errors import ZooError


@dataclass(frozen=True)
class Recipe:
    """First the head on the frozen network's features, then the top of the network with it.

    Sizes in pixels, fractions 0..1. BatchNorm keeps the pretrained statistics, which small sets
    spoil. What lies below the top does not learn, so it is computed once for each view of a picture.
    """

    seed: int = 0
    input_size: int | None = None  # per side; the network's own by default
    crop: float | None = None  # what the centre crop keeps; the network's own by default
    validation: float = 0.15  # the pictures that stop the training and choose its best weights
    test: float = 0.15  # the pictures that judge, seen once at the end
    views: int = 4  # versions of each training picture: itself and augmented ones
    shift: float = 0.06  # of height and width, at most
    zoom: float = 0.08
    rotation: float = 0.02  # of a full turn
    flip: bool = False  # left to right: not for digits, letters, signs
    batch_size: int = 64
    label_smoothing: float = 0.1  # Szegedy et al., arXiv 1512.00567
    drop_path: float = 0.0  # stochastic depth of a network loaded by name: for long training from scratch
    weight_decay: float = 0.01  # AdamW, Loshchilov and Hutter, arXiv 1711.05101; of kernels only
    head_epochs: int = 40
    head_rate: float = 3e-3
    epochs: int = 10  # of the top; 0 leaves the network as it is
    rate: float = 1e-3  # the highest, after the warm-up; a cosine takes it to zero
    warm_up: float = 0.1  # of all steps
    top: float = 1 / 3  # of the layers with weights, counted from the end
    patience: int = 4  # epochs without a better validation loss

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be {rule}, not {getattr(self, name)!r}"
            for name, rule, good in RULES
            if not good(self)
        ]
        if problems:
            raise ZooError("the recipe cannot be followed: " + "; ".join(problems))

    def with_changes(self, **changes: Any) -> Recipe:
        """Raises ZooError naming a field that recipes do not have."""
        known = [field.name for field in fields(self)]
        strange = [name for name in changes if name not in known]
        if strange:
            raise ZooError(f'a recipe has no "{strange[0]}"; it has: {", ".join(known)}')
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


RULES = (
    ("input_size", "at least 1", lambda r: r.input_size is None or r.input_size >= 1),
    ("crop", "above 0 and at most 1", lambda r: r.crop is None or 0 < r.crop <= 1),
    ("validation", "between 0 and 1", lambda r: 0 < r.validation < 1),
    ("test", "between 0 and 1, with validation below 1", lambda r: 0 < r.test < 1 - r.validation),
    ("views", "at least 1", lambda r: r.views >= 1),
    ("batch_size", "at least 1", lambda r: r.batch_size >= 1),
    ("head_epochs", "at least 1", lambda r: r.head_epochs >= 1),
    ("epochs", "at least 0", lambda r: r.epochs >= 0),
    ("top", "above 0 and at most 1", lambda r: 0 < r.top <= 1),
    ("patience", "at least 1", lambda r: r.patience >= 1),
)
