"""From the ranks of finished cells to rows of the lift table and to a verdict.

A cell is a work directory of `configs/expansion_lift.py`. Cells of one data set and share judge the
same users, so their arms stand in one table: each treatment against the best control, a fused
treatment against the fused real-only model. Called by `expansion_lift.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs import expansion_lift as plan
from recjax.evaluation import arms, statistics, verdicts
from recjax.evaluation.ranking import metrics_per_user
from recjax.evaluation.results import StatisticsConfig, ranked_task
from recjax.workdir import read_json

Row = dict[str, Any]
METRIC = "ndcg_at_10"
_KERNEL = "kernel"  # in the name of a cell with another generator: its fused control is another
_FUSED_KERNEL = f"{arms.FUSED}_{_KERNEL}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run; its folder holds an ordinary work directory."""

    round: str
    data: str
    share: str
    arm: str

    @property
    def name(self) -> str:
        """The argument of `configs/expansion_lift.py`."""
        return f"{self.round}/{self.data}/{self.share}/{self.arm}"

    @property
    def label(self) -> str:
        """The arm's name in the table; that of a control where the ratio is the usual one."""
        return plan.arm_name(self.arm) if "-" not in self.arm else self.arm.replace("-", "_")


@dataclasses.dataclass(frozen=True)
class Judged:
    """All arms of one data set and share.

    Attributes:
        task: as in results.json, the arms of all cells side by side.
        ratios: label -> synthetic users per real one.
        control: label of the best control.
        steps: of pretraining and fine-tuning, the same for every arm.
        part: "test" or "valid".
    """

    task: dict[str, Any]
    ratios: dict[str, float]
    control: str
    steps: int
    part: str


def judge(cells: Mapping[Cell, Path], settings: StatisticsConfig) -> Judged:
    """Puts the finished cells of one data set and share side by side.

    Raises:
        ValueError: if two cells do not judge the same users, or differ in their real-only arm.
    """
    ranks: dict[str, np.ndarray] = {}
    ratios: dict[str, float] = {}
    slices: dict[str, np.ndarray] = {}
    for cell, folder in cells.items():
        for name, of_arm in np.load(folder / "evaluation" / "next_item_ranks.npz").items():
            label = _label(cell, name)
            if label in ranks and not np.array_equal(ranks[label], of_arm):
                raise ValueError(f"{cell.name}: its arm {label!r} is not that of other cells")
            ranks[label] = of_arm
        slices = dict(np.load(folder / "evaluation" / "next_item_slices.npz"))
        config = read_json(folder / "config.json")["config"]
        if config["expansion"]["arms"]:
            ratios |= dict.fromkeys((cell.label, arms.fused_name(cell.label)),
                                    config["expansion"]["ratio"])  # fmt: skip
    steps = config["pretrain"]["num_steps"] + config["finetune"]["next_item"]["num_steps"]
    part = config["evaluate"]["part"]
    order = {name: ranks[name] for name in arms.ordered(ranks)}
    best = _best_control(order)
    pairs = _pairs(order, best)
    task = ranked_task(order, slices, {"part": part}, settings, comparisons=pairs)
    _correct([task["lift"][f"{a} vs {c}"][METRIC] for a, c in pairs if _is_treated(a, c)])
    return Judged(task, ratios, best, steps, part)


def rows_of(data: str, share: str, judged: Judged) -> list[Row]:
    """Returns a flat row per arm and slice; p_holm is left to `correct`."""
    rows = []
    for arm, summary in judged.task["arms"].items():
        names = [pair.split(" vs ") for pair in judged.task["lift"]]
        control = next((c for a, c in names if a == arm and c != "floor"), None)
        lift = judged.task["lift"][f"{arm} vs {control}"][METRIC] if control else None
        for name in ("all", *summary["slices"]):
            part = summary if name == "all" else summary["slices"][name]
            of_part = lift if name == "all" or lift is None else lift["slices"][name]
            if not part.get("too_few"):
                row = {
                    "data": data, "share": float(share.split(".")[0]) / 100, "users": share,
                    "arm": arm, "ratio": judged.ratios.get(arm), "slice": name,
                }  # fmt: skip
                rows.append({**row, **_numbers(part["metrics"][METRIC], of_part, control)})
                rows[-1] |= {"part": judged.part, "steps": judged.steps}
    return rows


def correct(rows: Sequence[Row]) -> None:
    """Fills p_holm: one family of the treatments of all data sets on all users, one of slices."""
    tested = [row for row in rows if row["control"] and _is_treated(row["arm"], row["control"])]
    for whole in (True, False):
        _correct([row for row in tested if (row["slice"] == "all") == whole])


def _correct(family: Sequence[Row]) -> None:
    adjusted = statistics.holm(np.array([member["p_value"] for member in family]))
    for member, p_holm in zip(family, adjusted, strict=True):
        member["p_holm"] = float(p_holm)


def verdict(judged: Judged) -> str:
    """Says in one sentence what the best treatment is worth against the strongest control."""
    found = judged.task["arms"]
    treated = [arm for arm in arms.treatments(found) if not _is_control(arm)]
    if not treated:
        return "No arm with expansion is finished yet."
    best = max(treated, key=lambda arm: found[arm]["metrics"][METRIC]["mean"])
    control = next(name for name in arms.CONTROLS if judged.control.startswith(name))
    names = {
        "floor": "floor",
        best: "expanded",
        judged.control: control,
    }  # as results.json has them
    kept = {name: found[arm] for arm, name in names.items() if arm in found}
    lift = {
        " vs ".join(names[arm] for arm in pair.split(" vs ")): of_pair
        for pair, of_pair in judged.task["lift"].items()
        if set(pair.split(" vs ")) <= set(names)
    }
    sentence = verdicts.verdict({"tasks": {"next_item": {"arms": kept, "lift": lift}}})
    return (
        f"{best} is the best of {len(treated)} arms, {judged.control} of the controls. {sentence}"
    )


def _label(cell: Cell, arm: str) -> str:
    """The table's name of an arm of a cell's results."""
    own = plan.arm_name(cell.arm)
    names = {own: cell.label, arms.fused_name(own): arms.fused_name(cell.label)}
    if cell.arm == "real_again":
        names[arms.REAL] = "real_again"
    if _KERNEL in cell.arm.split("-"):
        names[arms.FUSED] = _FUSED_KERNEL
    return names.get(arm, arm)


def _is_control(arm: str) -> bool:
    """A control, at whatever ratio, schedule or generator."""
    return arm == arms.REAL or arm.startswith(("repeat", "sliding_window", arms.FUSED))


def _is_treated(arm: str, control: str) -> bool:
    """Whether a comparison is one that expansion is claimed by."""
    others = (*arms.FLOORS, *arms.CEILINGS, *arms.SANITY)
    return not _is_control(arm) and arm not in others and control != "floor"


def _best_control(ranks: Mapping[str, np.ndarray]) -> str:
    values = {arm: metrics_per_user(rows, (10,))[METRIC].mean() for arm, rows in ranks.items()}
    return max((arm for arm in ranks if _is_control(arm)), key=lambda arm: values[arm])


def _pairs(ranks: Mapping[str, np.ndarray], best: str) -> list[tuple[str, str]]:
    """Each treatment against the best control, all models against the floor, controls and real."""
    fused = dict.fromkeys(arms.fused_treatments(ranks), arms.FUSED)
    fused |= {arm: _FUSED_KERNEL for arm in fused if _KERNEL in arm.split("_")}
    pairs = []
    for arm in ranks:
        if _is_treated(arm, best):
            pairs.append((arm, fused.get(arm, best)))
        elif arm != arms.REAL:
            pairs.append((arm, arms.REAL))
        if arm not in arms.FLOORS and "floor" in ranks:
            pairs.append((arm, "floor"))
    return pairs


def _numbers(
    metric: Mapping[str, Any], lift: Mapping[str, Any] | None, control: str | None
) -> dict[str, Any]:
    bounds = (lift and lift["relative_ci95"]) or (None, None)
    return {
        "ndcg_at_10": metric["mean"],
        "sd": metric["sd"],
        "seeds": len(metric["per_seed"]),
        "targets": metric["n"],
        "control": control,
        "lift": lift["relative"] if lift else None,
        "lift_low": bounds[0],
        "lift_high": bounds[1],
        "p_value": lift["p_value"] if lift else None,
        "p_holm": None,
    }
