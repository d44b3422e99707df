"""Fused arms: a trained model's scores plus the weighted log-scores of its seed's own generator.

What draws can teach a model, the generator may also say at serving time; so an expanded arm has to
beat the real-only model fused with the generator ("fused"), and what expansion adds beyond fusion
is the fused expanded arm against it. The weight of an arm is chosen on validation. Called by the
evaluate stage, on all processes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recjax.data.record_sources import Source
from recjax.evaluation import arms
from recjax.evaluation.ranking import metrics_per_user, rank_scores
from recjax.expansion import GeneratorState, load_generator, next_item_log_scores
from recjax.experiment import Experiment
from recjax.stages.evaluate_next_item import whole_history

Tree = Any


def rank_fused(experiment: Experiment) -> dict[str, tuple[np.ndarray, float]]:
    """Returns by fused arm the ranks float64 [S, N] of the judged users, and the chosen weight.

    Empty where no generator was fitted, or no weights are given.
    """
    settings, generators = experiment.context.config.evaluate, _generators(experiment)
    names = [arms.REAL, *arms.treatments(experiment.arms[1:])]
    if not generators or not settings.fusion_weights:
        return {}
    params = {arm: experiment.best_params("next_item", arm) for arm in names}
    grid = dict.fromkeys(names, tuple(settings.fusion_weights))
    tried = _ranks(experiment, generators, params, grid, experiment.validation("next_item"))
    chosen = {arm: choose_weight(tried[arm], grid[arm]) for arm in names}
    single = {arm: (weight,) for arm, weight in chosen.items()}
    judged = _ranks(experiment, generators, params, single, experiment.judged("next_item"))
    return {arms.fused_name(arm): (judged[arm][0], chosen[arm]) for arm in names}


def choose_weight(ranks: np.ndarray, weights: Sequence[float]) -> float:
    """Returns the weight with the best mean NDCG@10 of ranks [W, S, N], the first on a draw."""
    values = metrics_per_user(ranks, (10,))["ndcg_at_10"].mean(axis=(1, 2))
    return weights[int(np.argmax(values))]


def _generators(experiment: Experiment) -> list[GeneratorState]:
    """The generator of each seed, none where they were not fitted."""
    folder = experiment.context.workdir / "expansion" / "generators"
    paths = [folder / f"seed_{seed}.npz" for seed in experiment.context.seeds]
    return [load_generator(path) for path in paths if path.exists()]


def _ranks(
    experiment: Experiment,
    generators: Sequence[GeneratorState],
    params: Mapping[str, Tree],
    weights: Mapping[str, Sequence[float]],
    source: Source,
) -> dict[str, np.ndarray]:
    """Ranks the targets of a source by each arm and each of its weights: float64 [W, S, N]."""
    ranker = experiment.ranker(experiment.next_item_task(), top_n=0)
    mask_history = experiment.context.config.evaluate.mask_history
    size, width = experiment.context.config.evaluate.batch_size, experiment.items.vocab_size
    parts: dict[str, list[np.ndarray]] = {arm: [] for arm in params}
    for number, batch in enumerate(experiment.rank_batches(source)):
        records = source.__getitems__(range(number * size, min((number + 1) * size, len(source))))
        targets = np.array([record["target_item"] for record in records])
        histories = [whole_history(record) for record in records]
        hints = [next_item_log_scores(state, records, size, width) for state in generators]
        for arm, members in params.items():
            scores = ranker.scores(members, batch)[:, : len(records), :width]
            ranks = [
                [
                    rank_scores(score + weight * hint, targets, histories, mask_history)
                    for score, hint in zip(scores, hints, strict=True)
                ]
                for weight in weights[arm]
            ]
            parts[arm].append(np.array(ranks))
    return {arm: np.concatenate(ranks, axis=2) for arm, ranks in parts.items()}
