"""Assembles the contract of results.json from ranks and click probabilities of every arm and seed.

Lives here: means, intervals and lifts per arm and slice, and the frame around them. Not here: the
sentence (`verdicts`), the check of the schema (`schema`), ranks and statistics themselves. Called
by the evaluate stage. numpy only.

    METRIC = {"mean", "sd", "per_seed": [...], "n", "ci95": [lo, hi]}
    ARM    = {"metrics": {name: METRIC}, "slices": {slice: {"metrics": {...}} or TOO_FEW}}
    LIFT   = {"absolute", "relative", "ci95", "relative_ci95", "p_value", "p_holm", "seeds", "n",
              "slices": {slice: LIFT without slices, or TOO_FEW}}
    TOO_FEW = {"too_few": true, "n": number of targets}

"ci95" of a lift is that of the absolute difference. Unknown numbers are null, never NaN.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import logit

from recjax.evaluation import calibration, statistics
from recjax.evaluation.arms import comparisons as default_comparisons
from recjax.evaluation.ranking import metrics_per_user
from recjax.evaluation.schema import validate_results
from recjax.evaluation.verdicts import verdict

SCHEMA_VERSION = 1
Values = dict[str, dict[str, np.ndarray]]  # arm -> metric -> [S, N]


@dataclasses.dataclass(frozen=True)
class StatisticsConfig:
    """How results are summed up; the first three equal keys of `config.evaluate`."""

    cutoffs: Sequence[int] = (5, 10, 20)
    bootstrap_samples: int = 2000
    min_slice_targets: int = 500
    seed: int = 0


def ranked_task(
    ranks: Mapping[str, np.ndarray],
    slices: Mapping[str, np.ndarray],
    protocol: Mapping[str, Any],
    config: StatisticsConfig,
    *,
    comparisons: Sequence[tuple[str, str]] | None = None,
    extra: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """Sums up a ranking task.

    Args:
        ranks: arm -> float [S, N] ranks (or [N] for one seed), the same targets in every arm.
        slices: name -> bool [N].
        protocol: split, candidates, mask_history, ties; the cutoffs are added.
        config: cutoffs, bootstrap, least slice.
        comparisons: (treated, control) pairs; None: `arms.comparisons`.
        extra: arm -> per seed {metric: value}, numbers of whole lists such as coverage.

    Returns:
        The task's part of results.json: protocol, arms, lift.
    """
    per_seed = {arm: np.atleast_2d(np.asarray(of_arm)) for arm, of_arm in ranks.items()}

    def values_of(rows: np.ndarray) -> Values:
        return {a: metrics_per_user(r[:, rows], config.cutoffs) for a, r in per_seed.items()}

    num_targets = next(iter(per_seed.values())).shape[1]
    task = _task(values_of, num_targets, slices, comparisons, config, None)
    for arm, of_seeds in (extra or {}).items():
        for name in of_seeds[0]:
            numbers = np.array([of_seed[name] for of_seed in of_seeds])
            task["arms"][arm]["metrics"][name] = _metric(numbers, num_targets)
    return {"protocol": {**protocol, "cutoffs": list(config.cutoffs)}, **task}


def click_task(
    labels: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    users: np.ndarray,
    slices: Mapping[str, np.ndarray],
    protocol: Mapping[str, Any],
    config: StatisticsConfig,
    *,
    comparisons: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Sums up a click task: AUC and log loss with intervals; other metrics of the whole list.

    Those are calibration error, area under the precision-recall curve, lift of the top tenth,
    normalised entropy, and, where users have rows of both kinds, AUC within users (GAUC).

    Args:
        labels: [N], 0 or 1, both present.
        probabilities: arm -> float [S, N] (or [N] for one seed).
        users: int [N]; users are drawn, not examples.
        slices: name -> bool [N], such as "pair_unseen"; a slice of one class counts as too few.
        protocol: what the reader has to know; keys as in DESIGN.
        config: bootstrap, least slice.
        comparisons: (treated, control) pairs; None: `arms.comparisons`.

    Returns:
        The task's part of results.json, with "calibration" {arm: bins of the first seed}.
    """
    per_seed = {arm: np.atleast_2d(np.asarray(p)) for arm, p in probabilities.items()}

    def values_of(rows: np.ndarray) -> Values:
        return {arm: _click_values(labels[rows], p[:, rows]) for arm, p in per_seed.items()}

    usable = {name: mask & (len(np.unique(labels[mask])) > 1) for name, mask in slices.items()}
    task = _task(values_of, len(labels), usable, comparisons, config, users)
    for arm, p in per_seed.items():
        for name, numbers in _list_values(labels, p, users).items():
            task["arms"][arm]["metrics"][name] = _metric(numbers, len(labels))
    bins = {arm: calibration.reliability_bins(labels, p[0]) for arm, p in per_seed.items()}
    return {"protocol": dict(protocol), **task, "calibration": bins}


def assemble_results(
    tasks: Mapping[str, Mapping[str, Any]],
    data: Mapping[str, Any],
    selection: str,
    budget: Mapping[str, Any],
    cost: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Frames the tasks, adds the verdict, and checks the whole.

    Args:
        tasks: name -> output of `ranked_task` or `click_task`.
        data: counts and fingerprint.
        selection: how checkpoints and settings were chosen.
        budget: steps, batch, trials of every arm.
        cost: stage -> {"wall_seconds", ...}.

    Returns:
        The content of results.json, ready for `json.dump`.

    Raises:
        ValueError: if something does not fit the contract.
    """
    results = plain(
        {
            "schema_version": SCHEMA_VERSION,
            "verdict": "",
            "data": data,
            "selection": selection,
            "budget": budget,
            "tasks": tasks,
            "cost": cost,
        }
    )
    results["verdict"] = verdict(results)
    validate_results(results)
    return results


def arm_summary(
    values: Mapping[str, np.ndarray], config: StatisticsConfig, units: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Sums up one arm.

    Args:
        values: metric -> float [S, N], the value of each user and seed.
        config: bootstrap.
        units: int [N] users, or None for one row per user.

    Returns:
        {metric: METRIC}.
    """
    return _summarise({"arm": dict(values)}, [], config, units)[0]["arm"]


def plain(value: Any) -> Any:
    """Turns numpy numbers, arrays and tuples into JSON's types; NaN and infinities into null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _task(
    values_of: Callable[[np.ndarray], Values],
    num_targets: int,
    slices: Mapping[str, np.ndarray],
    comparisons: Sequence[tuple[str, str]] | None,
    config: StatisticsConfig,
    units: np.ndarray | None,
) -> dict[str, Any]:
    """Sums up all targets, then slice by slice, so that only one slice's values are in memory."""
    everyone = np.arange(num_targets)
    values = values_of(everyone)
    pairs = default_comparisons(values) if comparisons is None else list(comparisons)
    metrics, lifts = _summarise(values, pairs, config, units)
    arms: dict[str, Any] = {a: {"metrics": m, "slices": {}} for a, m in metrics.items()}
    for name, mask in slices.items():
        rows = np.flatnonzero(mask)
        of_arms: dict[str, dict[str, Any]] = {}
        of_pairs: dict[str, dict[str, Any]] = {}
        if len(rows) >= max(config.min_slice_targets, 1):
            of_units = None if units is None else units[rows]
            of_arms, of_pairs = _summarise(values_of(rows), pairs, config, of_units)
        for arm, summary in arms.items():
            part = {"metrics": of_arms[arm]} if of_arms else _too_few(rows)
            summary["slices"][name] = part
        for pair, by_metric in lifts.items():
            for metric, lift in by_metric.items():
                lift["slices"][name] = of_pairs[pair][metric] if of_pairs else _too_few(rows)
                lift["slices"][name].pop("slices", None)
    _correct(lifts)
    return plain({"arms": arms, "lift": lifts})


def _too_few(rows: np.ndarray) -> dict[str, Any]:
    return {"too_few": True, "n": len(rows)}


def _summarise(
    values: Values,
    pairs: Sequence[tuple[str, str]],
    config: StatisticsConfig,
    units: np.ndarray | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Returns {arm: {metric: METRIC}} and {"a vs b": {metric: LIFT}} from one set of draws."""
    columns = [(arm, name) for arm, metrics in values.items() for name in metrics if _drawn(name)]
    averages = np.column_stack([values[arm][name].mean(axis=0) for arm, name in columns])
    drawn = statistics.bootstrap_means(averages, config.bootstrap_samples, config.seed, units)
    draws = {key: drawn[:, place] for place, key in enumerate(columns)}
    arms: dict[str, dict[str, Any]] = {arm: {} for arm in values}
    for arm, metrics in values.items():
        for name, of_metric in metrics.items():
            arms[arm][name] = _metric(of_metric.mean(axis=1), of_metric.shape[1])
            if (arm, name) in draws:
                interval = statistics.interval_from_draws(of_metric, draws[arm, name], config.seed)
                upper = np.inf if name == "log_loss" else 1.0
                arms[arm][name]["ci95"] = np.clip(interval.ci95, 0.0, upper)
    lifts: dict[str, dict[str, Any]] = {}
    for treated, control in pairs:
        lifts[f"{treated} vs {control}"] = {
            name: dataclasses.asdict(
                statistics.lift_from_draws(
                    values[treated][name],
                    values[control][name],
                    draws[treated, name],
                    draws[control, name],
                    config.seed,
                )
            )
            | {"slices": {}}
            for name in values[treated]
            if _drawn(name)
        }
    return arms, lifts


def _drawn(metric: str) -> bool:
    """Precision and recall of one target are HR / k and HR: an interval adds nothing."""
    return not metric.startswith(("precision_", "recall_"))


def _metric(per_seed: np.ndarray, num_targets: int) -> dict[str, Any]:
    spread = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None
    mean = float(per_seed.mean())
    return {"mean": mean, "sd": spread, "per_seed": per_seed.tolist(), "n": num_targets}


def _click_values(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    areas = [calibration.auc_contributions(labels, of_seed) for of_seed in probabilities]
    losses = [calibration.log_losses(labels, of_seed) for of_seed in probabilities]
    return {"auc": np.stack(areas), "log_loss": np.stack(losses)}


def _list_values(
    labels: np.ndarray, probabilities: np.ndarray, users: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns metric -> float [S] of probabilities [S, N]."""
    # Brings in jax, which a reader of results can do without.
    from recjax.metrics import average_precision, grouped_auc, normalised_entropy, top_share

    labels = np.asarray(labels, np.float64)
    found: dict[str, list[float]] = {}
    for of_seed in np.asarray(probabilities, np.float64):
        within, weight = grouped_auc(of_seed, labels, users)
        logits = logit(np.clip(of_seed, 1e-7, 1 - 1e-7))
        values = {
            "ece": calibration.expected_calibration_error(labels, of_seed),
            "pr_auc": float(average_precision(of_seed, labels)),
            "lift_top_tenth": float(top_share(of_seed, labels, share=0.1)[2]),
            "normalised_entropy": float(normalised_entropy(logits, labels, labels * 0 + 1)),
        }
        values |= {"gauc": float(within / weight)} if weight else {}
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(numbers) for name, numbers in found.items()}


def _correct(lifts: dict[str, dict[str, Any]]) -> None:
    """Adds p_holm: one family per metric of all pairs, and one of all pairs and slices."""
    for metric in {name for by_metric in lifts.values() for name in by_metric}:
        whole = [by_metric[metric] for by_metric in lifts.values() if metric in by_metric]
        parts = [part for lift in whole for part in lift["slices"].values() if "p_value" in part]
        for family in (whole, parts):
            adjusted = statistics.holm(np.array([lift["p_value"] for lift in family]))
            for lift, p_holm in zip(family, adjusted, strict=True):
                lift["p_holm"] = float(p_holm)
