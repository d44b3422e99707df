"""One sentence that a person can act on, from the numbers of results.json and nothing else.

Called by `results`. The claim is held against the strongest control and against the counting floor;
"no gain" is an answer like any other.
"""

from collections.abc import Mapping
from typing import Any

from recjax.evaluation import arms, slices

ALPHA = 0.05


def verdict(results: Mapping[str, Any]) -> str:
    """Says whether expansion paid, by how much, and what to do.

    The treatment is the arm "expanded" where it exists, else the first treatment. Its lift is the
    lowest one over the controls. A counting floor above every model comes first.

    Args:
        results: content of results.json ("tasks" is read).

    Returns:
        A sentence.
    """
    for name, task in ordered_tasks(results):
        if metric := primary_metric(task):
            return _task_verdict(name, task, metric)
    return "Nothing was evaluated: no task has results."


def primary_metric(task: Mapping[str, Any]) -> str | None:
    """Returns the metric that decides: NDCG@10, else another NDCG, else AUC."""
    names = [name for arm in task.get("arms", {}).values() for name in arm["metrics"]]
    ndcg = [name for name in names if name.startswith("ndcg_at_")]
    order = ["ndcg_at_10", *ndcg, "auc"]
    return next((name for name in order if name in names), None)


def ordered_tasks(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns (name, task) pairs, next item first: files are sorted by name, readers are not."""
    return sorted(results.get("tasks", {}).items(), key=lambda pair: pair[0] != "next_item")


def ordered_pairs(task: Mapping[str, Any]) -> list[str]:
    """Returns the names of the comparisons, in the order of `arms.comparisons`."""
    found = list(task.get("lift", {}))
    wanted = [f"{a} vs {b}" for a, b in arms.comparisons(arms.ordered(task.get("arms", {})))]
    return [pair for pair in wanted if pair in found] + [p for p in found if p not in wanted]


def metric_title(name: str) -> str:
    """Returns a metric's name as a reader should see it.

    Example:
        >>> metric_title("ndcg_at_10")
        'NDCG@10'
    """
    titles = {
        "auc": "AUC",
        "log_loss": "log loss",
        "ece": "calibration error",
        "pr_auc": "PR-AUC",
        "gauc": "AUC within users",
        "lift_top_tenth": "lift of the top tenth",
    }
    short = name.replace("_at_", "@").replace("_", " ")
    acronym = name.startswith(("ndcg", "hr_", "mrr", "auc"))
    return titles.get(name, short.upper() if acronym else short)


def percent(share: float) -> str:
    """Returns a signed percentage.

    Example:
        >>> percent(0.1234)
        '+12.3 %'
    """
    return f"{100 * share:+.1f} %"


def headline_lift(task: Mapping[str, Any], metric: str) -> tuple[str, dict[str, Any]] | None:
    """Returns the name and LIFT of the treatment against its strongest control, or None."""
    treated = arms.treatments(task.get("arms", {}))
    if not treated:
        return None
    arm = "expanded" if "expanded" in treated else treated[0]
    pairs = [f"{arm} vs {control}" for control in arms.CONTROLS]
    found = [(pair, task["lift"][pair][metric]) for pair in pairs if pair in task.get("lift", {})]
    return min(found, key=lambda item: item[1]["absolute"], default=None)


def _task_verdict(name: str, task: Mapping[str, Any], metric: str) -> str:
    models = arms.models(task["arms"])
    if not models:
        return "Only floors were evaluated: train a model before deciding."
    headline = headline_lift(task, metric)
    sentence = _expansion_sentence(headline, metric) if headline else "Expansion was not tried."
    if arms.compares_heads(name):
        sentence = _heads_sentence(task, metric)
    best = max(models, key=lambda arm: task["arms"][arm]["metrics"][metric]["mean"])
    return _floor_sentence(name, task, metric, best, headline) or sentence


def _heads_sentence(task: Mapping[str, Any], metric: str) -> str:
    """Names the best head, and those that chance alone may have put behind it."""
    means = {arm: task["arms"][arm]["metrics"][metric] for arm in arms.models(task["arms"])}
    ranked = sorted(means, key=lambda arm: means[arm]["mean"], reverse=True)
    best = means[ranked[0]]
    text = f"Serve {ranked[0]}: {metric_title(metric)} {best['mean']:.4f}"
    if "floor" in task["arms"]:
        text += f", floor {task['arms']['floor']['metrics'][metric]['mean']:.4f}"
    close = [arm for arm in ranked[1:] if means[arm]["mean"] >= min(best["per_seed"])]
    if close:
        text += f"; its seeds alone reach down to {', '.join(close)}"
    return text + "."


def _floor_sentence(
    name: str,
    task: Mapping[str, Any],
    metric: str,
    best: str,
    headline: tuple[str, dict[str, Any]] | None,
) -> str:
    if "floor" not in task["arms"]:
        return ""
    values = {arm: task["arms"][arm]["metrics"][metric]["mean"] for arm in ("floor", best)}
    if values["floor"] <= values[best]:
        return ""
    lift = task["lift"].get(f"{best} vs floor", {}).get(metric)
    proven = lift and lift["ci95"][1] < 0
    verb = "beats every model" if proven else "is not beaten by any model"
    also = ""
    if headline:
        also = f" Expansion changed the model by {_lift_text(headline[1])}."
    figures = f"{values['floor']:.4f} against {values[best]:.4f} for {arms.title(best, name)}"
    return (
        f"The {arms.title('floor', name)} {verb} ({metric_title(metric)} {figures}): "
        f"serve the floor until longer training or more data puts a model above it.{also}"
    )


def _expansion_sentence(headline: tuple[str, dict[str, Any]], metric: str) -> str:
    pair, lift = headline
    control = arms.title(pair.split(" vs ")[1])
    low, high = lift["ci95"]
    text = f"{_lift_text(lift)} {metric_title(metric)} against {control}"
    sure = lift.get("p_holm", lift["p_value"]) < ALPHA
    once = "; one seed only, so repeat before acting" if lift["seeds"] < 2 else ""
    if low > 0 and sure:
        most = _best_slice(lift)
        return f"Expansion pays: {text}{most}; train with it{once}."
    if high < 0 and sure:
        return f"Expansion hurts: {text}; train on real behaviour only{once}."
    return f"No gain: {text}, which chance explains; train on real behaviour only{once}."


def _lift_text(lift: Mapping[str, Any]) -> str:
    if lift["relative"] is None or not lift.get("relative_ci95"):
        low, high = lift["ci95"]
        return f"{lift['absolute']:+.4f} [{low:+.4f}, {high:+.4f}]"
    low, high = lift["relative_ci95"]
    return f"{percent(lift['relative'])} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _best_slice(lift: Mapping[str, Any]) -> str:
    """Names the slice with the greatest sure lift, if it is above the whole."""
    sure = {
        name: part["relative"]
        for name, part in lift.get("slices", {}).items()
        if not part.get("too_few")
        and part["relative"] is not None
        and part.get("p_holm", part["p_value"]) < ALPHA
    }
    if not sure or lift["relative"] is None:
        return ""
    name = max(sure, key=lambda key: sure[key])
    if sure[name] <= lift["relative"]:
        return ""
    return f", most for {slices.TITLES.get(name, name)} ({percent(sure[name])})"
