"""The trials as a table for the terminal and as rows for trials.json."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recjax.tuning.study import Trial, best_trial


def trial_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Returns the trials as JSON rows, the mean over members beside the values."""
    return [{**dataclasses.asdict(trial), "mean": trial.mean} for trial in trials]


def print_trials(trials: Sequence[Trial], console: Console) -> None:
    """Prints the trials of one arm, the chosen one marked."""
    chosen, keys = best_trial(trials), list(trials[0].settings)
    title = f"{trials[0].arm}: {len(trials)} trials; trial {chosen.number} is chosen on validation"
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    metric = " / ".join(sorted({trial.metric for trial in trials} - {""}))
    for name in ("trial", "state", metric, "steps", "seconds", *keys):
        header = escape(name).replace(".", ".\n")
        table.add_column(header, justify="left" if name == "state" else "right")
    for trial in trials:
        value = "–" if trial.mean is None else f"{trial.mean:.4f}"
        facts = (str(trial.number), trial.state, value, str(trial.steps), f"{trial.seconds:.1f}")
        settings = [escape(_short(trial.settings[key])) for key in keys]
        table.add_row(*facts, *settings, style="bold" if trial is chosen else "")
    console.print(table)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
