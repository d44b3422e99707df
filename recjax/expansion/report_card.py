"""The report card: is the synthetic log like the real one, is it new, is it allowed? With a grade.

Every check compares a number with the same number between two halves of the real users, which is
what chance alone does. The result holds plain JSON values, plots' arrays included. Not here: what
a model gains from the samples (`recjax.evaluation`). Called by the expand stage, once per arm.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from recjax.expansion import fidelity
from recjax.expansion.checks import compare, grade_checks
from recjax.expansion.copies import CopyWatcher
from recjax.expansion.discriminator import MAX_USERS, tell_apart
from recjax.expansion.gate.reference import RealReference
from recjax.expansion.gate.settings import GateConfig
from recjax.expansion.privacy import QUANTILES, Privacy, measure_privacy
from recjax.expansion.records import RecordSource, batched, pick_evenly
from recjax.expansion.statistics import LogSpec, LogStatistics, count_halves, rank_categories


def make_report_card(
    real: RecordSource,
    synthetic: RecordSource,
    reference: RealReference,
    gate: GateConfig,
    *,
    category_of_item: np.ndarray,
    num_gap_bins: int,
    max_len: int,
    action_names: Sequence[str],
    category_names: Callable[[int], str] = str,
    held_out: Sequence[int] | np.ndarray = (),
) -> dict[str, Any]:
    """Returns the report card of one arm's kept draws, in JSON values.

    Both logs are read once, and evenly spread samples of them once more.

    Args:
        real: training records of the real users.
        synthetic: the kept records.
        reference: the real users as the gate knows them.
        gate: settings of the copy checks.
        category_of_item: int [V], 0 = none; all 0 for a log without categories.
        num_gap_bins: G.
        max_len: longer users are counted as this long.
        action_names: A names.
        category_names: category id -> name for the plots.
        held_out: places in `real` of users that no generator of the arm was fitted on, the
            non-members of the membership attack; empty: no attack.
    """
    cells, categories = rank_categories(category_of_item, reference.item_counts)
    spec = LogSpec(cells, len(categories) + 1, len(action_names), num_gap_bins, max_len)
    left, right = count_halves(real, spec)
    drawn, watcher = LogStatistics(spec), CopyWatcher(reference, gate)
    for batch in batched(synthetic, 1024):
        drawn.add(batch)
        watcher.add(batch)
    whole = left + right
    privacy = measure_privacy(real, synthetic, held_out) if drawn.users else None
    some_real, some_drawn = (pick_evenly(log, MAX_USERS) for log in (real, synthetic))
    told = tell_apart(some_real, some_drawn, category_of_item) if drawn.users else None
    checks = compare(left, right, drawn, reference, watcher.counts, privacy, told)
    grade, reasons = grade_checks(checks)
    names = [category_names(int(category)) for category in categories] + ["other"]
    return {
        "grade": grade,
        "reasons": reasons,
        "real": describe(whole),
        "synthetic": describe(drawn),
        "copies": asdict(watcher.counts),
        "privacy": None if privacy is None else describe_privacy(privacy),
        "checks": [asdict(check) for check in checks],
        "plots": {
            **make_plots(whole, drawn, list(action_names), names),
            **({} if privacy is None else {"nearest": plot_nearest(privacy)}),
        },
    }


def describe(log: LogStatistics) -> dict[str, Any]:
    """Returns the plain facts of a log."""
    return {
        "users": log.users,
        "events": log.events,
        "items": int((log.items > 0).sum()),
        "mean_length": _round(fidelity.compute_mean_length(log)),
        "effective_items": _round(fidelity.compute_effective_items(log.items)),
        "repeat_rate": _round(fidelity.compute_repeat_rate(log)),
        "category_order": _round(fidelity.compute_category_order(log)),
    }


def describe_privacy(privacy: Privacy) -> dict[str, Any]:
    """Returns the membership AUC and quantiles of the similarity to the nearest real user."""
    auc = privacy.membership_auc
    return {
        "membership_auc": None if auc is None else _round(auc),
        "held_out_users": len(privacy.held_out),
        "quantiles": list(QUANTILES),
        "nearest_real": {
            "real": np.quantile(privacy.real, QUANTILES).round(6).tolist(),
            "synthetic": np.quantile(privacy.synthetic, QUANTILES).round(6).tolist(),
        },
    }


def plot_nearest(privacy: Privacy) -> dict[str, Any]:
    """Returns the shares of users by similarity to their nearest (other) real user, in tenths."""
    edges = np.linspace(0, 1, 11)
    sides = {"real": privacy.real, "synthetic": privacy.synthetic}
    return {
        "similarity": edges[:-1].round(6).tolist(),
        **{
            name: fidelity.to_shares(np.histogram(values, edges)[0]).round(6).tolist()
            for name, values in sides.items()
        },
    }


def make_plots(
    real: LogStatistics, drawn: LogStatistics, actions: list[str], categories: list[str]
) -> dict[str, Any]:
    """Returns the arrays of the report's plots, real beside synthetic."""

    def both(read: Callable[[LogStatistics], np.ndarray]) -> dict[str, Any]:
        return {
            "real": np.round(read(real), 6).tolist(),
            "synthetic": np.round(read(drawn), 6).tolist(),
        }

    ranks = _log_ranks(int((real.items > 0).sum()))
    return {
        "lengths": {
            "events": list(range(len(real.lengths))),
            **both(lambda log: fidelity.to_shares(log.lengths)),
        },
        "actions": {"names": actions, **both(lambda log: fidelity.to_shares(log.actions))},
        "action_transitions": {"names": actions, **both(lambda log: _to_rows(log.action_pairs))},
        "gaps": {
            "bins": list(range(len(real.gaps))),
            **both(lambda log: fidelity.to_shares(log.gaps)),
        },
        "popularity": {
            "rank": (ranks + 1).tolist(),
            **both(lambda log: np.sort(fidelity.to_shares(log.items))[::-1][ranks]),
        },
        "category_transitions": {
            "names": categories,
            **both(lambda log: _to_rows(log.category_pairs)),
        },
    }


def _to_rows(pairs: np.ndarray) -> np.ndarray:
    """Returns each row's shares: the probability of the next, given the current."""
    return pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)


def _log_ranks(number: int, points: int = 200) -> np.ndarray:
    """Returns at most `points` ranks from 0 to number - 1, evenly on a logarithmic axis."""
    last = max(number - 1, 0)
    return np.unique(np.round(np.geomspace(1, last + 1, points) - 1).astype(np.int64))


def _round(value: float) -> float:
    return round(float(value), 6)
