"""Which recipe, and which network, suits one's pictures: each trial learns from the earlier ones."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from zoo.classifier import facts
from zoo.data import Pictures, open_data
from zoo.errors import ZooError
from zoo.plotting import new_figure, write_png
from zoo.progress import progress
from zoo.training.checkpoint import write_table
from zoo.training.recipe import Recipe, resolve
from zoo.training.result import Result, read_result
from zoo.training.space import Space, among, checked, is_logarithmic, suggested, usual
from zoo.training.tuning import claim, fine_tune
from zoo.writing import alone

if TYPE_CHECKING:
    import optuna

NETWORK = "network"
FIRST = 5  # trials by chance, before earlier ones guide the choice and stop hopeless ones
SEARCH, TRIALS, TABLE, PLOT, JOURNAL = "search.json", "trials", "trials.csv", "trials.png", "trials.log"
FIGURES = ("trial", "state", "val_loss", "val_accuracy", "epochs", "seconds")


@dataclass(frozen=True, eq=False)
class Search:
    """What was tried, and what was best.

    best: the Result of the trial with the lowest validation loss; its metrics are of the test pictures, by
    which nothing was chosen. trials: a dict for each, in order: FIGURES (state is "complete", or "stopped" of
    a hopeless one, whose val_accuracy is None; val_loss and val_accuracy are of the best epoch), then what
    was tried of the space.
    """

    best: Result
    trials: list[dict[str, Any]]
    space: Space

    def save(self, path: str | PathLike[str]) -> Path:
        """Plot the validation loss over each field, a PNG. Raises ZooError without matplotlib."""
        figure = new_figure(1 + 2.5 * len(self.space), 3)
        axes = figure.subplots(1, len(self.space), sharey=True, squeeze=False)[0]
        for ax, name in zip(axes, self.space, strict=True):
            self._plot(ax, name)
        axes[0].set_ylabel("validation loss")
        axes[0].legend()
        return write_png(figure, path)

    def _plot(self, ax: Any, name: str) -> None:
        values: Any = self.space[name]
        choices = isinstance(values, list)
        for state, colour in (("stopped", "silver"), ("complete", "tab:blue")):
            some = [trial for trial in self.trials if trial["state"] == state]
            x = [values.index(trial[name]) if choices else trial[name] for trial in some]
            ax.scatter(x, [trial["val_loss"] for trial in some], color=colour, label=state, clip_on=False)
        if choices:
            ax.set_xticks(range(len(values)), [str(value) for value in values])
        else:
            ax.set(xlim=values, xscale="log" if is_logarithmic(values) else "linear")
        ax.set_xlabel(name)


def search(
    model_or_names: Any,
    data: Any,
    out: str | PathLike[str],
    *,
    space: Space | None = None,
    trials: int = 20,
    minutes: float | None = None,
    recipe: Recipe | str | PathLike[str] | None = None,
    **changes: Any,
) -> Search:
    """Fine-tune again and again with other fields of the recipe, and keep what validates best.

    model_or_names: as in `fine_tune`, or a list of such, among which the best is looked for, too. space: for
    each field of the recipe a list of choices, or a tuple of the lowest and the highest number; by default
    rates, weight decay, label smoothing and augmentation. trials: how many, the first being the recipe as it
    is; after so many minutes no new one begins. recipe and changes: as in `fine_tune`, for all trials.

    out: a folder for the best trial's folder, trials.csv, a plot and Optuna's journal. The same call goes on
    after a kill, within the trial that was broken off; a call for more trials adds to those that are there.

    Trials are chosen by tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), and stopped where
    their best loss is above the median of the earlier ones' at that epoch.

    Raises ZooError for a space that recipes cannot follow, a folder of another search, and where Optuna is
    not installed; and what `fine_tune` raises.
    """
    start, base = time.monotonic(), resolve(recipe, **changes)
    space = checked(usual(base) if space is None else space, base)
    networks = _networks(model_or_names)
    pictures, folder = open_data(data), Path(out)
    whole = {NETWORK: list(networks), **space} if len(networks) > 1 else space
    job = {
        "networks": list(networks),
        "data": pictures.digest,
        "space": repr(space),
        "recipe": base.to_dict(),
    }
    study = _study(folder, job, base)
    with alone(folder / SEARCH), progress() as bar:
        line = bar.add_task("search", total=trials)
        while len(_ended(study)) < trials and not _is_late(study, start, minutes):
            bar.update(line, completed=len(_ended(study)), description=_describe(study))
            _try(study, whole, networks, pictures, base, folder)
            rows = _rows(study)
            write_table(folder / TABLE, list(rows[0]), rows)
    found = Search(read_result(_home(folder, _best(study))), _rows(study), whole)
    found.save(folder / PLOT)
    return found


def _networks(given: Any) -> dict[str, Any]:
    several = given if isinstance(given, list | tuple) else [given]
    names = [facts(one).name if isinstance(one, keras.Model) else str(one) for one in several]
    if len(set(names)) < len(names) or not names:
        raise ZooError(f"give networks of different names to search among, not {', '.join(names) or 'none'}")
    return dict(zip(names, several, strict=True))


def _study(folder: Path, job: dict[str, Any], base: Recipe) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise ZooError("a search needs Optuna: pip install 'cnn-zoo[search]'") from error
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    claim(folder, SEARCH, job)
    # The head's first epochs say little of what the whole will come to.
    spared = base.head_epochs if base.epochs else FIRST
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name="search",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST, n_warmup_steps=spared),
    )


def _try(
    study: optuna.Study,
    space: Space,
    networks: dict[str, Any],
    pictures: Pictures,
    base: Recipe,
    folder: Path,
) -> None:
    """One trial more has ended; of all of them, only the best one's folder is left."""
    import optuna

    trial = _next(study, space, base)
    tried, home = suggested(trial, space), _home(folder, len(_ended(study)))
    network = networks[tried.pop(NETWORK, next(iter(networks)))]
    try:
        result = fine_tune(network, pictures, home, recipe=replace(base, **tried), callbacks=_Report(trial))
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        best = min(result.history, key=lambda epoch: epoch["val_loss"])
        trial.set_user_attr("val_accuracy", best["val_accuracy"])
        trial.set_user_attr("epochs", sum(epoch["epoch"] > 0 for epoch in result.history))
        study.tell(trial, best["val_loss"])
    for other in (folder / TRIALS).iterdir():
        if other != _home(folder, _best(study)):
            shutil.rmtree(other)


def _next(study: optuna.Study, space: Space, base: Recipe) -> optuna.Trial:
    """The trial that was broken off, or a new one that the seed and the earlier ones decide."""
    import optuna

    states = optuna.trial.TrialState
    if not study.trials:
        network = {NETWORK: space[NETWORK][0]} if NETWORK in space else {}
        study.enqueue_trial({**among(base, space), **network})
    for broken in study.get_trials(states=(states.RUNNING,)):
        study.enqueue_trial(broken.params)
        study.tell(broken.number, state=states.FAIL)
    seed = 1000 * base.seed + len(_ended(study))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST)
    return study.ask()


class _Report(keras.callbacks.Callback):
    """Says how a trial goes, and ends it where it is hopeless."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self.trial, self.best = trial, math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        import optuna

        self.best = min(self.best, (logs or {})["val_loss"])
        self.trial.report(self.best, epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    import optuna

    return study.get_trials(states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED))


def _best(study: optuna.Study) -> int:
    """Its place among those that have ended."""
    return [trial.number for trial in _ended(study)].index(study.best_trial.number)


def _home(folder: Path, place: int) -> Path:
    return folder / TRIALS / f"{place:03}"


def _is_late(study: optuna.Study, start: float, minutes: float | None) -> bool:
    return bool(_ended(study)) and minutes is not None and time.monotonic() - start > 60 * minutes


def _rows(study: optuna.Study) -> list[dict[str, Any]]:
    return [
        {
            "trial": place,
            "state": "stopped" if trial.state.name == "PRUNED" else "complete",
            "val_loss": trial.value,
            "val_accuracy": trial.user_attrs.get("val_accuracy"),
            "epochs": trial.user_attrs.get("epochs", len(trial.intermediate_values)),
            "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
            **trial.params,
        }
        for place, trial in enumerate(_ended(study))
    ]


def _describe(study: optuna.Study) -> str:
    return f"search, validation loss {study.best_value:.3f}" if _ended(study) else "search"
