"""The optimizer of a stage: a warm-up, a cosine, and a rate for each layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from zoo.training.recipe import Recipe

MOMENTUM = 0.9
COPY = re.compile(r"(/replica_\d+)?:0$")
# All but kernels: neither biases nor norms, layer scales, tables of positions, temperatures.
NO_DECAY = r"^(?!.*(kernel|experts|weights)(/replica_\d+)?(:0)?$)"


class _Layerwise:
    """Every variable learns at its share (by path) of the rate. As in Howard and Ruder, arXiv 1801.06146."""

    shares: dict[str, float]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # On TensorFlow these are its own variables, whose names are Keras's paths, and on several devices
        # the copies'.
        path = getattr(variable, "path", None) or COPY.sub("", variable.name)
        share = self.shares.get(path, 1.0)
        super().update_step(gradient, variable, learning_rate * share)  # type: ignore[misc]


class LayerwiseAdamW(_Layerwise, keras.optimizers.AdamW):
    pass


class LayerwiseSGD(_Layerwise, keras.optimizers.SGD):
    pass


def rates(steps: int, highest: float, recipe: Recipe) -> Any:
    """The schedule for so many batches in all: a warm-up, then a cosine to zero."""
    updates = max(steps // recipe.accumulate, 2)
    warm_up = max(1, round(recipe.warm_up * updates))
    return keras.optimizers.schedules.CosineDecay(
        0.0, updates - warm_up, warmup_target=highest, warmup_steps=warm_up
    )


def averaging(recipe: Recipe, steps: int) -> float | None:
    """The decay of the moving average, at most so that an epoch of so many batches is nearly all of it."""
    highest = 1 - 2 * recipe.accumulate / steps
    return min(recipe.ema, highest) if recipe.ema and highest > 0 else None


def optimizer(model: keras.Model, rate: Any, recipe: Recipe) -> keras.optimizers.Optimizer:
    """rate: a number or a schedule. Its state is built for the model's trainable variables."""
    options: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_norm,
        "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
        "use_ema": recipe.ema is not None,
        "ema_momentum": recipe.ema or 0.99,
    }
    made: Any = (
        LayerwiseAdamW(rate, **options)
        if recipe.optimizer == "adamw"
        else LayerwiseSGD(rate, momentum=MOMENTUM, nesterov=True, **options)
    )
    made.shares = shares(model, recipe.lowest_rate)
    made.exclude_from_weight_decay(var_names=[NO_DECAY])
    if recipe.precision == "mixed_float16":
        # Small gradients would be nought in float16.
        made = keras.optimizers.LossScaleOptimizer(made)
    made.build(model.trainable_variables)
    return made


def shares(model: keras.Model, lowest: float) -> dict[str, float]:
    """Path of a variable -> its share of the rate: 1 for the last layer that learns, `lowest` for the
    first.
    """
    learning = [layer for layer in model.layers if layer.trainable_variables]
    steps = max(len(learning) - 1, 1)
    return {
        variable.path: lowest ** ((len(learning) - 1 - i) / steps)
        for i, layer in enumerate(learning)
        for variable in layer.trainable_variables
    }
