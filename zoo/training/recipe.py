"""What fine-tuning does, as numbers: one frozen object, printed, saved and compared."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, get_type_hints

from zoo.errors import ZooError, did_you_mean
from zoo.training.augmentation import POLICIES, WAYS, is_policy
from zoo.training.device import PRECISIONS, check_backend, precision_for_device, shareable, sharers

# What those look for who know Keras's fit and compile.
KERAS_WORDS = {
    "learning_rate": 'did you mean "rate"?',
    "lr": 'did you mean "rate"?',
    "validation_split": 'did you mean "validation"?',
    "validation_data": 'give it with the data, {"train": ..., "val": ..., "test": ...}',
    "verbose": "progress is shown on terminals and in notebooks alone",
}


@dataclass(frozen=True)
class Recipe:
    """First the head on the frozen network's features, then the top of the network with it.

    Sizes in pixels, fractions 0..1. BatchNorm keeps the pretrained statistics, which small sets
    spoil. What lies below the top does not learn, so it is computed once for each view of a picture;
    where the whole network learns, every epoch sees the pictures changed anew.
    """

    seed: int = 0
    scratch: bool = False  # a network loaded by name starts without its weights
    input_size: int | None = None  # per side; the network's own by default
    crop: float | None = None  # what the centre crop keeps; the network's own by default
    validation: float = 0.15  # the pictures that stop the training and choose its best weights
    test: float = 0.15  # the pictures that judge, seen once at the end
    views: int = 4  # versions of each training picture: itself and augmented ones
    augment: str = "light"  # of POLICIES, or a layer registered with Keras; light takes shift, zoom, rotation
    augment_with: str = "layers"  # whose functions make the changes: one of WAYS
    shift: float = 0.06  # of height and width, at most
    zoom: float = 0.08
    rotation: float = 0.02  # of a full turn
    flip: bool = False  # left to right: not for digits, letters, signs
    smallest_crop: float = 1.0  # of the area: random crops keep at least so much, stretched back; 1: no crops
    brightness: float = 0.0  # added, of 255, at most
    contrast: float = 0.0  # the distance to the mean becomes 1 - contrast to 1 + contrast times as large
    erase: float = 0.0  # the share of pictures that lose a rectangle, Zhong et al., arXiv 1708.04896
    mixup: float = 0.0  # alpha of the shares that two pictures are mixed in, Zhang et al., arXiv 1710.09412
    cutmix: float = 0.0  # alpha of the area that one gets of another, Yun et al., arXiv 1905.04899
    batch_size: int = 64
    accumulate: int = 1  # batches whose gradients make one step
    label_smoothing: float = 0.1  # Szegedy et al., arXiv 1512.00567
    class_weights: bool = False  # rare classes count as much as common ones
    drop_path: float = 0.0  # stochastic depth of a network loaded by name: for long training from scratch
    optimizer: str = (
        "adamw"  # Loshchilov and Hutter, arXiv 1711.05101; or "sgd", with Nesterov's momentum 0.9
    )
    weight_decay: float = 0.01  # of kernels only
    clip_norm: float | None = None  # of all gradients together, at most
    # At each epoch's end the weights become their moving average of this decay, or of a lower one where an
    # epoch has few steps: a step of AdamW's at the full rate throws a network with frozen norms about.
    ema: float | None = 0.9
    head_epochs: int = 12  # 0: the head learns with the network only
    head_rate: float = 1e-2
    epochs: int = 10  # of the top; 0 leaves the network as it is
    rate: float = 1e-3  # the highest, after the warm-up; a cosine takes it to zero
    lowest_rate: float = 1.0  # of the lowest layer that learns, as a share of the head's; between, geometric
    warm_up: float = 0.1  # of all steps
    top: float = 1 / 3  # of the layers with weights, counted from the end
    frozen_norms: bool = True
    precision: str = "auto"  # of the computation: one of PRECISIONS; auto is bfloat16 where the device gains
    teacher: str | None = None  # what zoo.load takes, of the same classes: Hinton et al., arXiv 1503.02531
    temperature: float = 4.0  # that teacher's and student's logits are divided by
    # The share of the loss that is the teacher's labels'; half by default, and none where it labels pictures
    # that nobody has (docs/benchmarks.md, pictures without labels).
    distillation: float | None = None
    # How sure a teacher must be of an unlabelled picture that is learnt from: Xie et al., arXiv 1911.04252.
    confidence: float = 0.3
    patience: int = 4  # epochs without a better validation loss

    def __post_init__(self) -> None:
        kinds = get_type_hints(Recipe)
        strange = [
            f"{name} must be {getattr(kind, '__name__', kind)}, not {getattr(self, name)!r}"
            for name, kind in kinds.items()
            if not isinstance(getattr(self, name), kind | int if kind is float else kind)
        ]
        problems = strange or [
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
            hint = KERAS_WORDS.get(strange[0]) or did_you_mean(
                strange[0], known, f"it has: {', '.join(known)}"
            )
            raise ZooError(f'a recipe has no "{strange[0]}"; {hint}')
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


RECIPES: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 0, "views": 2},
    "fast": {},
    "full": {
        "top": 1.0,
        "epochs": 20,
        "rate": 5e-4,
        "lowest_rate": 0.1,
        "clip_norm": 1.0,
        "augment": "trivial",
        "mixup": 0.2,
        "patience": 8,
    },
    "scratch": {
        "scratch": True,
        "top": 1.0,
        "head_epochs": 0,
        "epochs": 100,
        "rate": 2e-3,
        "weight_decay": 0.05,
        "clip_norm": 1.0,
        "frozen_norms": False,
        "augment": "randaugment",
        "erase": 0.25,
        "mixup": 0.2,
        "cutmix": 1.0,
        "drop_path": 0.05,
        "patience": 20,
    },
}


def resolve(
    recipe: Recipe | str | PathLike[str] | None, *, unlabelled: bool = False, **changes: Any
) -> Recipe:
    """The recipe with the changes, and with what this device decides, and whether there are unlabelled
    pictures, written down: its file repeats it.

    Raises ZooError where several devices cannot share its batches evenly, and where Keras cannot train.
    """
    check_backend()
    wanted = recipe_of(recipe).with_changes(**changes)
    if shareable(wanted.batch_size) != wanted.batch_size:
        raise ZooError(
            f"{sharers()} devices share each batch: batch_size must be a multiple of that, not "
            f"{wanted.batch_size}"
        )
    share = wanted.distillation
    return replace(
        wanted,
        precision=precision_for_device(wanted.precision),
        distillation=share if share is not None else 0.0 if unlabelled else 0.5,
    )


def recipe_of(recipe: Recipe | str | PathLike[str] | None) -> Recipe:
    """A recipe by name (one of RECIPES), from the recipe.json of an earlier training, or as it is.

    Raises ZooError for an unknown name and a file that is no recipe.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is None or recipe in RECIPES:
        return Recipe(**RECIPES[str(recipe or "fast")])
    path = Path(recipe)
    if not path.is_file():
        raise ZooError(f'unknown recipe "{recipe}"; give a recipe.json or one of: {", ".join(RECIPES)}')
    try:
        stored = json.loads(path.read_text("utf-8"))
        return Recipe().with_changes(**stored.get("recipe", stored))
    except (ValueError, AttributeError, TypeError) as error:
        raise ZooError(f'"{path}" is not a recipe: {error}') from error


RULES = (
    ("input_size", "at least 1", lambda r: r.input_size is None or r.input_size >= 1),
    ("crop", "above 0 and at most 1", lambda r: r.crop is None or 0 < r.crop <= 1),
    ("validation", "between 0 and 1", lambda r: 0 < r.validation < 1),
    ("test", "between 0 and 1, with validation below 1", lambda r: 0 < r.test < 1 - r.validation),
    ("views", "at least 1", lambda r: r.views >= 1),
    ("batch_size", "at least 1", lambda r: r.batch_size >= 1),
    ("accumulate", "at least 1", lambda r: r.accumulate >= 1),
    (
        "augment",
        f"one of {', '.join(POLICIES)}, or the name a layer is registered by with Keras",
        lambda r: is_policy(r.augment),
    ),
    ("augment_with", f"one of {', '.join(WAYS)}", lambda r: r.augment_with in WAYS),
    ("smallest_crop", "above 0 and at most 1", lambda r: 0 < r.smallest_crop <= 1),
    ("brightness", "between 0 and 1", lambda r: 0 <= r.brightness <= 1),
    ("contrast", "between 0 and 1", lambda r: 0 <= r.contrast <= 1),
    ("erase", "between 0 and 1", lambda r: 0 <= r.erase <= 1),
    ("mixup", "at least 0", lambda r: r.mixup >= 0),
    ("cutmix", "at least 0", lambda r: r.cutmix >= 0),
    ("optimizer", "adamw or sgd", lambda r: r.optimizer in ("adamw", "sgd")),
    ("clip_norm", "above 0", lambda r: r.clip_norm is None or r.clip_norm > 0),
    ("ema", "between 0 and 1", lambda r: r.ema is None or 0 < r.ema < 1),
    ("head_epochs", "at least 0, and 1 where epochs is 0", lambda r: r.head_epochs >= (r.epochs == 0)),
    ("epochs", "at least 0", lambda r: r.epochs >= 0),
    ("lowest_rate", "above 0 and at most 1", lambda r: 0 < r.lowest_rate <= 1),
    ("top", "above 0 and at most 1", lambda r: 0 < r.top <= 1),
    ("precision", f"one of {', '.join(PRECISIONS)}", lambda r: r.precision in PRECISIONS),
    ("temperature", "above 0", lambda r: r.temperature > 0),
    ("distillation", "between 0 and 1", lambda r: r.distillation is None or 0 <= r.distillation <= 1),
    ("confidence", "between 0 and 1", lambda r: 0 <= r.confidence <= 1),
    ("patience", "at least 1", lambda r: r.patience >= 1),
)
