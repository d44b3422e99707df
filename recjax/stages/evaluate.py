"""evaluate: every arm, every floor, the same test users; writes results.json.

The test part is opened here and nowhere else, and not here for a screen that judges on validation
(`config.evaluate.part`). Next-item ranks come from `evaluate_next_item` and `fusion`, click
probabilities from `evaluate_click`; `recjax.evaluation` turns them into numbers with intervals.
"""

from typing import Any

from recjax import distributed
from recjax.context import Context
from recjax.evaluation.results import assemble_results
from recjax.experiment import Experiment
from recjax.stages import evaluate_click, evaluate_next_item, evaluate_table, fusion
from recjax.stages.evaluate_table import statistics_of
from recjax.stages.kinds import is_table
from recjax.stopwatch import TIMINGS
from recjax.workdir import STAGES, read_json, write_json

_SELECTION = (
    "best checkpoint of each seed by validation (next item NDCG@10, click AUC); the counting "
    "floor's settings and the weights of fused arms by validation NDCG@10"
)
_SELECTION_OF_ROWS = "best checkpoint of each seed by AUC on validation, the mean over outcomes"
_JUDGED = {
    "test": "test opened once",
    "valid": "judged on the same validation part, which flatters every arm; test not opened",
}
_COSTS = ("wall_seconds", "peak_memory_gib", *TIMINGS)


def run(context: Context) -> dict[str, Any]:
    """Writes evaluation/ (ranks, curves, example users) and results.json.

    All processes lend their devices to the arms; the rest is work of process 0.
    """
    if is_table(context.config):
        return _finish(context, evaluate_table.judge(context), evaluate_table.describe(context))
    experiment = Experiment(context)
    ranked = evaluate_next_item.rank_arms(experiment) if "next_item" in experiment.tasks else {}
    fused = fusion.rank_fused(experiment) if ranked else {}
    scored = evaluate_click.score_arms(experiment) if "click" in experiment.tasks else {}
    if not distributed.is_main():
        return {}
    statistics = statistics_of(context.config)
    tasks = {}
    with context.workdir.fresh_folder("evaluation") as folder:
        if "next_item" in experiment.tasks:
            tasks["next_item"] = evaluate_next_item.judge(
                experiment, statistics, folder, ranked, fused
            )
        if "click" in experiment.tasks:
            tasks["click"] = evaluate_click.judge(experiment, statistics, scored)
    return _finish(context, tasks, _data(context))


def _finish(context: Context, tasks: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Writes results.json."""
    if not distributed.is_main():
        return {}
    selection = _SELECTION_OF_ROWS if is_table(context.config) else _SELECTION
    results = assemble_results(
        tasks,
        data=data,
        selection=f"{selection}; {_JUDGED[context.config.evaluate.part]}",
        budget=_budget(context),
        cost=stage_costs(context),
    )
    write_json(context.workdir / "results.json", results)
    return {"verdict": results["verdict"]}


def stage_costs(context: Context) -> dict[str, dict[str, Any]]:
    """Returns {stage: {wall_seconds, peak_memory_gib, ...}} of the stages that are done.

    Stages that train say where their steps' time went, in all and by training.
    """
    costs: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        facts = context.workdir.facts(stage)
        if facts:
            costs[stage] = {name: facts[name] for name in _COSTS if name in facts}
        if "trainings" in facts:
            costs[stage]["trainings"] = {
                label: summary["timings"] for label, summary in facts["trainings"].items()
            }
    return costs


def _data(context: Context) -> dict[str, Any]:
    profile = read_json(context.workdir / "prepared" / "profile.json")
    after = profile["after"]
    return {
        "source": context.config.data.source,
        "users": after["users"],
        "items": after["items"],
        "events": after["events"],
        "split": profile["split"],
        "fingerprint": context.workdir.stage_digest("prepare"),
    }


def _budget(context: Context) -> dict[str, Any]:
    config = context.config
    steps = {} if is_table(config) else {"pretrain": config.pretrain.num_steps}
    steps |= {name: config.finetune[name].num_steps for name in config.finetune.tasks}
    return {"seeds": list(context.seeds), "steps": steps, "trials_per_arm": 1}
