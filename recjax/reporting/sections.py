"""What each section of the page says: texts, tiles and tables from results and context.

Lives here: plain dicts and lists for the template, figures included as SVG strings. Not here:
markup (`template.html`), figures (`plots`, `expansion_plots`), the file (`html`).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from recjax.evaluation import arms, slices, verdicts
from recjax.reporting import expansion_plots, plots, tables
from recjax.reporting.context import ReportContext

_TASK_TITLES = {"next_item": "Next item", "click": "Click-through", "row_click": "Labelled rows"}
_OUTCOME = "row_click_"  # how the tasks of one of several outcomes begin
_STATES_SHOWN = 12
_LISTS_SHOWN = 4  # lists of one example user


def task_title(name: str) -> str:
    """Returns a task's name as a reader should see it.

    Example:
        >>> task_title("click"), task_title("row_click_bought")
        ('Click-through', 'Outcome: bought')
    """
    if name.startswith(_OUTCOME):
        return f"Outcome: {name.removeprefix(_OUTCOME)}"
    return _TASK_TITLES.get(name, name.replace("_", " "))


def tone_of(verdict: str) -> str:
    """Returns "good", "bad" or "even": the colour of the verdict."""
    if verdict.startswith("Expansion pays"):
        return "good"
    return "bad" if verdict.startswith("Expansion hurts") else "even"


def headline_tiles(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the figures at the top: lift, floor, real, expanded, share of the oracle."""
    for name, task in verdicts.ordered_tasks(results):
        if metric := verdicts.primary_metric(task):
            return _tiles(name, task, metric)
    return []


def data_rows(profile: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns (what, before, after) lines of the data profile."""
    before, after = profile.get("before") or {}, profile.get("after") or {}
    rows = [
        (key, _amount(before.get(key)), _amount(after.get(key)))
        for key in ("events", "users", "items", "sessions")
    ]
    spread = [side.get("events_per_user") or {} for side in (before, after)]
    for key, label in (("mean", "events per user, mean"), ("median", "median"), ("max", "most")):
        rows.append((label, _amount(spread[0].get(key)), _amount(spread[1].get(key))))
    key = "items_90pct_of_events"
    label = "items that hold 90 % of the events"
    rows.append((label, _amount(before.get(key)), _amount(after.get(key))))
    rows.append(("density", _share(before.get("density")), _share(after.get("density"))))
    rows.append(("first event", _when(before.get("first_time")), _when(after.get("first_time"))))
    rows.append(("last event", _when(before.get("last_time")), _when(after.get("last_time"))))
    counts = [side.get("actions") or {} for side in (before, after)]
    for name in dict.fromkeys([*counts[0], *counts[1]]):
        values = [_amount(side.get(name, 0)) for side in counts]
        rows.append((f"action: {name}", values[0], values[1]))
    return [row for row in rows if row[1:] != ("–", "–")]


def part_rows(profile: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Returns (part, rows, share of yes, features unknown to training most often) of a table."""
    rows = []
    for part, facts in (profile.get("parts") or {}).items():
        unknown = sorted(facts["unknown"].items(), key=lambda pair: -pair[1])[:3]
        worst = ", ".join(f"{name} {_share(share)}" for name, share in unknown if share)
        rate = _share(facts["positives"] / facts["rows"])
        rows.append((part, _amount(facts["rows"]), rate, worst or "none"))
    return rows


def removed_rows(profile: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns (where, reason, rows) of what cleaning and quarantine took out."""
    found = []
    for where in ("quarantine", "cleaning"):
        for reason, number in (profile.get(where) or {}).items():
            if isinstance(number, int | float) and number:
                found.append((where, reason.replace("_", " "), _amount(number)))
    return found


def expansion_cards(context: ReportContext) -> list[dict[str, Any]]:
    """Returns one block per arm: grade, reasons, counts, figures."""
    blocks = []
    for arm, card in (context.report_cards or {}).items():
        figures = card.get("plots") or {}
        gate = _sum_gate(card.get("gate") or {})
        blocks.append(
            {
                "title": arms.title(arm),
                "grade": card.get("grade", "–"),
                "reasons": card.get("reasons") or [],
                "checks": _card_checks(card),
                "facts": _card_facts(card),
                "gate": gate,
                "gate_figure": expansion_plots.plot_gate(gate, arm),
                "shapes": expansion_plots.plot_shapes(figures, arm),
                "transitions": expansion_plots.plot_transitions(figures, arm),
            }
        )
    return blocks


def task_blocks(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one block per task: protocol, tables and figures."""
    blocks = []
    for name, task in verdicts.ordered_tasks(results):
        metric = verdicts.primary_metric(task)
        if metric is None:
            continue
        blocks.append(
            {
                "name": name,
                "title": task_title(name),
                "protocol": _protocol(task.get("protocol") or {}),
                "table": tables.metric_table(name, task, main=True),
                "whole_table": tables.metric_table(name, task),
                "lifts": tables.lift_table(name, task, metric),
                "metric": verdicts.metric_title(metric),
                "arms_figure": plots.plot_arms(name, task, metric),
                "lift_figure": plots.plot_lifts(name, task, metric),
                "slices_figure": plots.plot_slices(name, task, metric),
                "too_few": too_few(task),
                "calibration": plots.plot_calibration(task.get("calibration") or {}),
            }
        )
    return blocks


def too_few(task: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Returns (slice, targets) of the slices that are too small to judge."""
    first: Mapping[str, Any] = next(iter(task["arms"].values()), {})
    parts = first.get("slices", {})
    return [
        (slices.TITLES.get(name, name.replace("_", " ")), parts[name]["n"])
        for name in slices.ordered(parts)
        if parts[name].get("too_few")
    ]


def user_cards(users: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the example users with each list's hits marked."""
    cards = []
    for user in users:
        lists = [
            {
                "arm": arms.title(arm),
                "items": [
                    (title or "(no title)", title == user["target"])
                    for title in user["recommendations"][arm]
                ],
            }
            for arm in _shown_arms(user.get("recommendations") or {})
        ]
        cards.append({**user, "lists": lists})
    return cards


def _shown_arms(lists: Mapping[str, Any]) -> list[str]:
    """Returns the arms whose lists stand side by side: the floor and what is to be decided on."""
    wanted = ["floor", arms.REAL, *arms.treatments(lists)]
    found = [arm for arm in wanted if arm in lists] or arms.ordered(lists)
    return found[:_LISTS_SHOWN]


def state_blocks(cards: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the most visited hidden states, their actions sorted by probability."""
    blocks = []
    for card in list(cards)[:_STATES_SHOWN]:
        actions = sorted((card.get("actions") or {}).items(), key=lambda pair: -pair[1])
        blocks.append({**card, "actions": [pair for pair in actions if pair[1] >= 0.02][:5]})
    return blocks


def limits(results: Mapping[str, Any], context: ReportContext) -> list[str]:
    """Returns the sentences of the section on limits: what the reader should hold against this."""
    found = list(context.notes)
    for name, task in verdicts.ordered_tasks(results):
        label = task_title(name)
        seeds = max((_num_seeds(arm) for arm in task["arms"].values()), default=1)
        if seeds < 5:
            word = "seed was" if seeds == 1 else "seeds were"
            found.append(
                f"{label}: {seeds} {word} trained per arm. Intervals allow for that, but fewer "
                "than five seeds tell little about how much training itself varies."
            )
        small = len(too_few(task))
        if small:
            found.append(f"{label}: {small} slices have too few targets and are not judged.")
    trials = (results.get("budget") or {}).get("trials_per_arm")
    if trials == 1:
        found.append(
            "Every arm was trained with the config's settings, without a search of its own: better "
            "settings may exist for each."
        )
    found.append(
        "Targets are what users did next, given what the shop showed them then. A log cannot tell "
        "what they would have done with other recommendations; only an experiment can."
    )
    return found


def config_rows(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flattens a nested config into (dotted key, value) rows."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += config_rows(value, f"{prefix}{key}.")
        elif value not in ("", None, (), []):
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append((f"{prefix}{key}", shown))
    return rows


def flow(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (stage, time) of the stages that ran."""
    cost = results["cost"]
    return [(stage, _seconds(cost[stage].get("wall_seconds"))) for stage in plots.in_order(cost)]


def training_costs(cost: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Returns (training, step, data wait, device wait, host, examples/s, events/s, utilisation)."""
    rows = []
    for stage in plots.in_order(cost):
        for label, times in (cost[stage].get("trainings") or {}).items():
            if times:
                waits = [times[f"{name}_share"] for name in ("data_wait", "device_wait", "host")]
                rates = [times[f"{name}_per_second"] for name in ("examples", "tokens")]
                rows.append(
                    (
                        f"{stage} {label}",
                        f"{1000 * times['step_seconds']:,.1f} ms",
                        *(f"{100 * share:.1f} %" for share in waits),
                        *(f"{rate:,.0f}" for rate in rates),
                        _share(times.get("model_flops_utilisation")),
                    )
                )
    return rows


def _tiles(name: str, task: Mapping[str, Any], metric: str) -> list[dict[str, str]]:
    found, label = [], verdicts.metric_title(metric)
    means = {a: s["metrics"][metric]["mean"] for a, s in task["arms"].items()}
    headline = verdicts.headline_lift(task, metric)
    if headline and headline[1].get("relative") is not None:
        pair, lift = headline
        low, high = lift["relative_ci95"]
        control = arms.title(pair.split(" vs ")[1], name)
        small = f"{100 * low:+.1f} to {100 * high:+.1f} %, against {control}"
        found.append(
            {
                "label": f"lift in {label}",
                "value": verdicts.percent(lift["relative"]),
                "small": small,
            }
        )
    for arm in ("floor", arms.REAL, *arms.treatments(task["arms"])[:2]):
        if arm in means:
            interval = task["arms"][arm]["metrics"][metric].get("ci95")
            small = " – ".join(map(tables.number, interval)) if interval else ""
            value = tables.number(means[arm])
            found.append({"label": arms.title(arm, name), "value": value, "small": small})
    if "oracle" in means and means["oracle"] > 0:
        best = max(value for arm, value in means.items() if arm not in arms.CEILINGS)
        value = f"{100 * best / means['oracle']:.0f} %"
        small = f"best arm over the oracle's {tables.number(means['oracle'])}"
        found.append({"label": "of what the truth allows", "value": value, "small": small})
    return found


def _card_checks(card: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (check["name"], _amount(check["value"]), _amount(check["chance"]), check["grade"])
        for check in card.get("checks") or []
    ]


def _card_facts(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    real, synthetic = card.get("real") or {}, card.get("synthetic") or {}
    return [
        (key.replace("_", " "), _amount(real.get(key)), _amount(synthetic.get(key)))
        for key in dict.fromkeys([*real, *synthetic])
    ]


def _sum_gate(gate: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Adds up the gate's counts of all seeds: strategy -> drawn, kept, removed by reason."""
    total: dict[str, dict[str, Any]] = {}
    for strategies in gate.values():
        for strategy, counts in strategies.items():
            summed = total.setdefault(strategy, {"drawn": 0, "kept": 0, "removed": {}})
            summed["drawn"] += counts.get("drawn", 0)
            summed["kept"] += counts.get("kept", 0)
            for reason, number in (counts.get("removed") or {}).items():
                summed["removed"][reason] = summed["removed"].get(reason, 0) + number
    return total


def _protocol(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {"mask_history": "own history", "floor_settings": "floor settings"}
    words = {True: "masked", False: "not masked"}
    rows = []
    for key, value in protocol.items():
        if key == "mask_history":
            value = words[bool(value)]
        elif isinstance(value, Mapping):
            inner = [
                f"{arms.title(arm)}: "
                + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items())
                for arm, settings in value.items()
                if isinstance(settings, Mapping) and settings
            ]
            value = "; ".join(inner) or ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        rows.append((names.get(key, key.replace("_", " ")), str(value)))
    return [row for row in rows if row[1]]  # of what was not used, nothing


def _num_seeds(arm: Mapping[str, Any]) -> int:
    return max((len(metric["per_seed"]) for metric in arm["metrics"].values()), default=1)


def _amount(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"


def _when(seconds: int | None) -> str:
    if seconds is None:
        return "–"
    if abs(seconds) < 10**8:  # an order, not a clock
        return _amount(seconds)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"
