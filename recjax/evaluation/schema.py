"""Checks that a dictionary keeps the contract of results.json (schema_version 1).

Called by `results` before a file is written and by whoever reads one. No imports beyond json.
"""

import json
from collections.abc import Mapping
from typing import Any

TOP_KEYS = {
    "schema_version": int,
    "verdict": str,
    "data": dict,
    "selection": str,
    "budget": dict,
    "tasks": dict,
    "cost": dict,
}
METRIC_KEYS = ("mean", "sd", "per_seed", "n")
LIFT_KEYS = ("absolute", "relative", "ci95", "p_value", "p_holm", "seeds", "n")


def validate_results(results: Mapping[str, Any]) -> None:
    """Checks the whole of results.json.

    Args:
        results: the parsed content.

    Raises:
        ValueError: naming every place that does not fit, one a line.
    """
    problems = [
        f"{key}: must be of type {kind.__name__}"
        for key, kind in TOP_KEYS.items()
        if not isinstance(results.get(key), kind)
    ]
    if results.get("schema_version") != 1:
        problems.append("schema_version: must be 1")
    try:
        json.dumps(results, allow_nan=False)
    except (TypeError, ValueError) as error:
        problems.append(f"not plain JSON: {error}")
    if not problems:
        for name, task in results["tasks"].items():
            problems += _task_problems(f"tasks.{name}", task)
        for stage, cost in results["cost"].items():
            if not isinstance(cost, Mapping) or "wall_seconds" not in cost:
                problems.append(f"cost.{stage}: wall_seconds is missing")
    if problems:
        raise ValueError("results do not keep the contract:\n  " + "\n  ".join(problems))


def _task_problems(path: str, task: Mapping[str, Any]) -> list[str]:
    problems = [f"{path}.{key}: missing" for key in ("protocol", "arms", "lift") if key not in task]
    for arm, summary in task.get("arms", {}).items():
        problems += _arm_problems(f"{path}.arms.{arm}", summary)
    for pair, by_metric in task.get("lift", {}).items():
        if pair.count(" vs ") != 1:
            problems.append(f"{path}.lift.{pair}: must be named 'TREATED vs CONTROL'")
        for metric, lift in by_metric.items():
            problems += _lift_problems(f"{path}.lift.{pair}.{metric}", lift)
    return problems


def _arm_problems(path: str, arm: Mapping[str, Any]) -> list[str]:
    problems = []
    if "metrics" not in arm:
        return [f"{path}.metrics: missing"]
    for name, metric in arm["metrics"].items():
        missing = [key for key in METRIC_KEYS if key not in metric]
        problems += [f"{path}.metrics.{name}.{key}: missing" for key in missing]
        if not missing and not metric["per_seed"]:
            problems.append(f"{path}.metrics.{name}.per_seed: needs one value per seed")
    for name, part in arm.get("slices", {}).items():
        if not part.get("too_few"):
            problems += _arm_problems(f"{path}.slices.{name}", part)
    return problems


def _lift_problems(path: str, lift: Mapping[str, Any]) -> list[str]:
    problems = [f"{path}.{key}: missing" for key in LIFT_KEYS if key not in lift]
    if not problems and len(lift["ci95"]) != 2:
        problems.append(f"{path}.ci95: must be [low, high]")
    for name, part in lift.get("slices", {}).items():
        if not part.get("too_few"):
            problems += _lift_problems(f"{path}.slices.{name}", part)
    return problems
