"""Next item on the test users: ranks of floors, arms and the oracle, lists, curves, examples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recjax.data.record_sources import LimitedSource, Source
from recjax.evaluation import slices
from recjax.evaluation.beyond_accuracy import ListStatistics
from recjax.evaluation.counts import count_log
from recjax.evaluation.floors import (
    CountingFloor,
    CountingGrid,
    Examples,
    Floor,
    fit_floor,
    rank_examples,
)
from recjax.evaluation.ranking import metrics_per_user, rank_scores
from recjax.evaluation.results import StatisticsConfig, ranked_task
from recjax.experiment import Experiment
from recjax.stages.oracle import ShopOracle
from recjax.workdir import read_json, write_json

_CHUNK = 256  # examples scored at once by floors and oracle
_LIST = 10  # length of the lists that coverage, diversity and novelty look at
_FLOOR_NAMES = {"counting": "floor"}  # results call the counting floor "the floor"


# ranks [S, N], the lists of the first examples and seed, list statistics per seed
RankedArm = tuple[np.ndarray, np.ndarray, list[dict[str, float]]]


def judge(
    experiment: Experiment,
    statistics: StatisticsConfig,
    folder: Path,
    ranked: dict[str, RankedArm],
    fused: dict[str, tuple[np.ndarray, float]],
) -> dict[str, Any]:
    """Returns the next_item part of results.json; writes ranks, slices, curve and example users.

    `ranked` is what `rank_arms` returned, `fused` what `fusion.rank_fused` did.
    """
    context = experiment.context
    settings, say = context.config.evaluate, context.progress.say
    test = experiment.judged("next_item")
    ranks: dict[str, np.ndarray] = {}
    lists: dict[str, list[dict[str, float]]] = {}
    shown: dict[str, np.ndarray] = {}
    floors = {}
    for name in settings.floors:
        arm = _FLOOR_NAMES.get(name, name)
        floors[arm] = _fit_floor(experiment, name)
        ranks[arm] = rank_examples(floors[arm], _examples(test), settings.mask_history)[None]
        shown[arm], lists[arm] = _floor_lists(experiment, floors[arm], test)
        say(f"{arm}: NDCG@10 {_ndcg(ranks[arm]):.4f}")
    for arm, (ranks[arm], shown[arm], lists[arm]) in ranked.items():
        say(f"{arm}: NDCG@10 {_ndcg(ranks[arm]):.4f} over {len(context.seeds)} seeds")
    for arm, (ranks[arm], weight) in fused.items():
        say(f"{arm}: NDCG@10 {_ndcg(ranks[arm]):.4f}, the generator's weight {weight:g}")
    oracle = ShopOracle.of(context)
    if oracle is not None:
        ranks["oracle"] = _rank_oracle(experiment, oracle, test)[None]
        say(f"oracle: NDCG@10 {_ndcg(ranks['oracle']):.4f}")
    np.savez_compressed(folder / "next_item_ranks.npz", **ranks)  # type: ignore[arg-type]  # stub
    masks = _slices(experiment, test)
    np.savez_compressed(folder / "next_item_slices.npz", **masks)  # type: ignore[arg-type]  # stub
    if "floor" in floors:
        write_json(folder / "data_curve.json", _data_curve(experiment, floors["floor"], test))
    write_json(folder / "example_users.json", _example_users(experiment, test, shown))
    protocol = {
        "split": context.config.prepare.split.method,
        "part": settings.part,
        "candidates": f"all {experiment.items.vocab_size - 5:,} items",
        "mask_history": settings.mask_history,
        "ties": "half rank",
        "floor_settings": {arm: floor.settings for arm, floor in floors.items()},
        "fusion_weights": {arm: weight for arm, (_, weight) in fused.items()},
    }
    return ranked_task(ranks, masks, protocol, statistics, extra=lists)


# ---- floors ----


def fit_counting_floor(experiment: Experiment) -> Floor:
    """Returns the counting floor, tuned on validation."""
    return _fit_floor(experiment, "counting")


def rank_by_floor(floor: Floor, source: Source, mask_history: bool) -> np.ndarray:
    """Returns the ranks float [N] of the targets of next-item examples."""
    return rank_examples(floor, _examples(source), mask_history)


def _fit_floor(experiment: Experiment, name: str) -> Floor:
    settings = experiment.context.config.evaluate
    train = experiment.examples("sequences", "train")
    return fit_floor(
        name,
        lambda: _items_of(train),
        experiment.items.vocab_size,
        _Validation(experiment.validation("next_item")),
        CountingGrid(**settings.counting),
        settings.mask_history,
    )


class _Validation:
    """Validation examples that can be iterated again without being held."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __iter__(self) -> Iterator[Examples]:
        return _examples(self._source)


def _items_of(source: Source) -> Iterator[np.ndarray]:
    for records in _chunks(source):
        yield from (record["items"] for record in records)


def _examples(source: Source) -> Iterator[Examples]:
    for records in _chunks(source):
        yield Examples(
            [whole_history(record) for record in records],
            np.array([record["target_item"] for record in records]),
        )


def _chunks(source: Source) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(source), _CHUNK):
        yield source.__getitems__(range(start, min(start + _CHUNK, len(source))))


def whole_history(record: dict[str, Any]) -> np.ndarray:
    """Returns the kept history in order, older items (order unknown) before it."""
    older = np.setdiff1d(record["seen"], record["items"])
    return np.concatenate([older, record["items"]])


def _floor_lists(
    experiment: Experiment, floor: Floor, test: Source
) -> tuple[np.ndarray, list[dict[str, float]]]:
    stats = _list_statistics(experiment)
    first = np.zeros((0, _LIST), np.int32)
    for batch in _examples(test):
        lists = floor.top_n(batch.histories, _LIST, experiment.context.config.evaluate.mask_history)
        first = lists if not len(first) else first
        stats.update(lists)
    return first, [stats.result()]


# ---- arms ----


def rank_arms(experiment: Experiment) -> dict[str, RankedArm]:
    """Ranks the catalogue for the test users by every arm; on all processes."""
    test = experiment.judged("next_item")
    return {arm: _rank_arm(experiment, arm, test) for arm in experiment.arms}


def _rank_arm(experiment: Experiment, arm: str, test: Source) -> RankedArm:
    ranker = experiment.ranker(experiment.next_item_task(), top_n=_LIST)
    params = experiment.best_params("next_item", arm)
    stats = [_list_statistics(experiment) for _ in experiment.context.seeds]
    ranks, first = [], np.zeros((0, _LIST), np.int32)
    for batch_ranks, tops, _ in ranker.stream(params, experiment.rank_batches(test)):
        ranks.append(batch_ranks)
        first = tops[0] if not len(first) else first
        for member, stat in enumerate(stats):
            stat.update(tops[member])
    return np.concatenate(ranks, axis=1), first, [stat.result() for stat in stats]


def _list_statistics(experiment: Experiment) -> ListStatistics:
    return ListStatistics(experiment.items.train_count, experiment.items.category_id)


# ---- oracle ----


def _rank_oracle(experiment: Experiment, oracle: ShopOracle, test: Source) -> np.ndarray:
    mask_history, ranks = experiment.context.config.evaluate.mask_history, []
    for records in _chunks(test):
        scores = oracle.next_item(records)
        targets = np.array([record["target_item"] for record in records])
        histories = [whole_history(record) for record in records]
        ranks.append(rank_scores(scores, targets, histories, mask_history))
    return np.concatenate(ranks)


# ---- what the report shows beside ----


def _slices(experiment: Experiment, test: Source) -> dict[str, np.ndarray]:
    table, parts = experiment.items, []
    for records in _chunks(test):
        targets = np.array([record["target_item"] for record in records])
        histories = [whole_history(record) for record in records]
        new, known = slices.new_categories(targets, histories, table.category_id)
        times = [record["times"][-1] if len(record["times"]) else -1 for record in records]
        parts.append(
            (
                np.array([len(history) for history in histories]),
                targets,
                new,
                known,
                np.array(times, np.int64),
                np.array([record["target_time"] for record in records], np.int64),
            )
        )
    lengths, targets, new, known, last_times, target_times = map(
        np.concatenate, zip(*parts, strict=True)
    )
    timed = read_json(experiment.context.workdir / "prepared" / "profile.json")["has_clock"]
    return slices.slice_masks(
        slices.ExampleFacts(
            history_lengths=lengths,
            targets=targets,
            train_counts=table.train_count,
            category_new=new,
            category_known=known,
            last_times=last_times if timed else None,
            target_times=target_times if timed else None,
        )
    )


def _data_curve(experiment: Experiment, floor: Floor, test: Source) -> dict[str, Any]:
    """Refits the chosen counting floor on random shares of the users: would more data help?"""
    assert isinstance(floor, CountingFloor)
    settings, train = experiment.context.config.evaluate, experiment.examples("sequences", "train")
    rows = []
    for share in settings.data_curve_shares:
        number = max(1, round(share * len(train)))
        chosen = LimitedSource(train, number, seed=experiment.context.config.seed)
        window = (floor.chosen.window,)
        counts = count_log(_items_of(chosen), experiment.items.vocab_size, window)
        ranks = rank_examples(
            CountingFloor(counts, floor.chosen), _examples(test), settings.mask_history
        )
        rows.append({"share": share, "users": number, "ndcg_at_10": _ndcg(ranks[None])})
    return {"model": "counting floor", "metric": "ndcg_at_10", "rows": rows}


def _example_users(
    experiment: Experiment, test: Source, shown: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Titles of a few users' history, target and each arm's list."""
    titles = experiment.items.titles
    users = []
    for index in range(min(experiment.context.config.report.num_example_users, len(test), _CHUNK)):
        record = test[index]
        users.append(
            {
                "user": int(record["user"]),
                "history": [titles[item] for item in record["items"][-8:]],
                "target": titles[record["target_item"]],
                "recommendations": {
                    arm: [titles[item] for item in lists[index]] for arm, lists in shown.items()
                },
            }
        )
    return users


def _ndcg(ranks: np.ndarray) -> float:
    return float(metrics_per_user(ranks, (10,))["ndcg_at_10"].mean())
