"""Measures the item perplexity of every model family on held-out parts of real logs.

    python benchmarks/hmm_perplexity.py --data DIR [--quick] [--logs NAME ...] [--output FILE]
        [--families NAME ...]

The quantity is exp(- mean log p(item | all earlier events)), the same for every family. Settings
are chosen by it on the validation part, out of four trials per family; the test part is read once
per family. Sequences are cut to their last 50 events for every family.

Where the last events of users are held out, users were seen in training, so the counts of their own
events are left out of the kernel while their states are filtered (`leave_out`); of the validation
event, which the history of the test holds and training did not, counts are left out too that were
never in. Where whole users are held out, the weight of the kernel may be scaled (`mix_scale`): EM
leaves out the event being explained, but not the other events of its user, and so trusts the kernel
too much. Families:

    unigram         popularity with additive smoothing
    markov          first-order chain, Dirichlet smoothing towards the unigram
    skip            counting floor as a distribution: kernel on previous items and unigram, weights
                    (mixture, lags) by EM; the engine with one state
    plain           HMM, items only
    factored        with category x price band, action and gap bin, as far as the log has them
    kernel          HMM with actions, gaps and the kernel on previous items
    content         HMM with actions, gaps and item features
    content_kernel  both

On the leave-one-out log the same models also rank the catalogue, beside the counting floor, with
history masked and half ties; their trial is then chosen by NDCG@10 on validation.
"""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import real_logs
from real_logs import Grids, Log
from records import make_parser, write_record

from recjax import hmm
from recjax.data.vocabulary import NUM_SPECIALS
from recjax.evaluation.floors import CountingGrid, Examples, fit_floor, rank_examples
from recjax.evaluation.ranking import metrics_per_user, rank_scores

MAX_LEN, BATCH = 50, 512
NEIGHBOURS, ITERATIONS, TOLERANCE = 100, 12, 1e-3
Scored = list[tuple[Grids, int]]


def settings_of(trial: dict, iterations: int) -> hmm.HmmSettings:
    """Returns the engine's settings of one trial."""
    return hmm.HmmSettings(
        num_states=trial["states"],
        num_iterations=iterations,
        tolerance=TOLERANCE,
        kernel_window=trial.get("window", 5),
        kernel_neighbours=NEIGHBOURS,
        kernel_backward=trial.get("backward", 0.0),
        kernel_damping=trial.get("damping", 0.0),
        smoothing=trial["smoothing"],
    )


class Batches:
    """Sequences as padded batches of one shape, again at every call."""

    def __init__(self, sequences: list[Grids], with_context: bool) -> None:
        self.sequences, self.with_context = sequences, with_context

    def __call__(self) -> Iterator[hmm.Events]:
        """Yields Events [BATCH, MAX_LEN]."""
        for first in range(0, len(self.sequences), BATCH):
            yield events_of(self.sequences[first : first + BATCH], self.with_context)


def events_of(sequences: list[Grids], with_context: bool) -> hmm.Events:
    """Returns Events [BATCH, MAX_LEN] of the last events of each sequence."""
    grids = np.zeros((3, BATCH, MAX_LEN), np.int32)
    lengths = np.zeros(BATCH, np.int32)
    for row, sequence in enumerate(sequences):
        lengths[row] = min(len(sequence[0]), MAX_LEN)
        for grid, column in zip(grids, sequence, strict=True):
            grid[row, : lengths[row]] = column[-MAX_LEN:]
    grids[1:] *= with_context
    return hmm.Events(grids[0], grids[1], grids[2], lengths)


def fit(log: Log, family: str, trial: dict, iterations: int) -> hmm.HmmParams:
    """Fits one model of the engine to the training part."""
    has_context = family not in ("skip", "plain")
    batches, settings = Batches(log.train, has_context), settings_of(trial, iterations)
    sizes = log.sizes if has_context else hmm.HmmSizes(log.sizes.num_items)
    kernel = None
    if family in ("skip", "kernel", "content_kernel"):
        kernel = hmm.build_kernel(batches(), sizes.num_items, settings)
    params, _ = hmm.fit_baum_welch(
        jax.random.key(0),
        batches,
        sizes,
        settings,
        kernel=kernel,
        item_category=log.cells if family == "factored" else None,
        item_features=log.features if family.startswith("content") else None,
    )
    # Of another user the kernel foresees less than of one whose other events it was counted from.
    return dataclasses.replace(params, mix=params.mix * trial.get("mix_scale", 1.0))


def model_value(params: hmm.HmmParams, scored: Scored) -> float:
    """Returns the mean log p(item | earlier events) over all events of held-out users."""
    has_context = params.action.shape[1] > 1 or params.gap.shape[1] > 1
    sequences = [_cut(grids) for grids, _ in scored]
    values = [
        np.asarray(hmm.item_log_likelihood(params, events), np.float64).sum()
        for events in Batches(sequences, has_context)()
    ]
    return float(sum(values)) / sum(len(grids[0]) for grids in sequences)


def _cut(grids: Grids) -> Grids:
    items, actions, gaps = (column[-MAX_LEN:] for column in grids)
    return items, actions, gaps


class Markov:
    """p(item | previous item) with `strength` pseudo-events spread by the smoothed unigram."""

    def __init__(self, log: Log, additive: float, strength: float) -> None:
        items = [grids[0][-MAX_LEN:] for grids in log.train]
        self.num_items, self.strength = log.sizes.num_items, strength
        popularity = np.bincount(np.concatenate(items), minlength=self.num_items) + additive
        self.unigram = popularity / popularity.sum()
        keys = np.concatenate([row[:-1] * self.num_items + row[1:] for row in items])
        self.keys, self.counts = np.unique(keys, return_counts=True)
        self.rows = np.bincount(self.keys // self.num_items, self.counts, self.num_items)

    def value(self, scored: Scored) -> float:
        """Returns the mean log p(item | previous item); strength inf is the unigram."""
        values = []
        for grids, first in scored:
            items = grids[0][-MAX_LEN:]
            begin = max(len(items) - (len(grids[0]) - first), 0)
            likely = self.unigram[items]
            if math.isfinite(self.strength):
                keys = items[:-1] * self.num_items + items[1:]
                place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
                count = np.where(self.keys[place] == keys, self.counts[place], 0)
                total = self.rows[items[:-1]] + self.strength
                likely = np.append(likely[:1], (count + self.strength * likely[1:]) / total)
            values.append(np.log(likely[begin:]))
        return float(np.concatenate(values).mean())


def trials_of(
    family: str, states: tuple[int, int], kernel_axis: tuple[str, tuple], chosen: dict[str, dict]
) -> list[dict]:
    """Returns the four trials of a family; what earlier families chose is not searched again."""
    if family == "unigram":
        return [{"additive": additive} for additive in (0.3, 1.0, 3.0, 10.0)]
    if family == "markov":
        return [
            chosen["unigram"] | {"strength": strength} for strength in (10.0, 30.0, 100.0, 300.0)
        ]
    grid: tuple[tuple[str, tuple], tuple[str, tuple]]
    fixed: dict = {}
    if family == "skip":
        grid = (("backward", (0.0, 0.5)), kernel_axis)
        fixed = {"states": 1, "smoothing": 1.0}
    elif family in ("plain", "factored"):
        grid = (("states", states), ("smoothing", (0.3, 1.0)))
    elif family == "content":
        grid = (("states", states), ("smoothing", (0.001, 0.01)))
    else:
        fixed = {"backward": chosen["skip"]["backward"]}
        fixed |= {"smoothing": chosen["plain" if family == "kernel" else "content"]["smoothing"]}
        grid = (("states", states), kernel_axis)
    (one, ones), (other, others) = grid
    return [fixed | {one: a, other: b} for a, b in itertools.product(ones, others)]


FAMILIES = (
    "unigram", "markov", "skip", "plain", "factored", "kernel", "content", "content_kernel"
)  # fmt: skip


def measure(
    log: Log,
    families: list[str],
    states: tuple[int, int],
    kernel_axis: tuple[str, tuple],
    iterations: int,
) -> Iterator[dict]:
    """Yields the rows of every family: what validation chose and its test, then each trial."""
    chosen: dict[str, dict] = {}
    for family in families:
        if family == "factored" and log.cells is None and log.sizes.num_actions == 1:
            continue  # nothing to factor: the same as plain
        begin, tried = time.perf_counter(), []
        for trial in trials_of(family, states, kernel_axis, chosen):
            if family in ("unigram", "markov"):
                model = Markov(log, trial["additive"], trial.get("strength", math.inf))
            else:
                model = fit(log, family, trial, iterations)
            found = judge(model, log, log.validation)
            tried.append((trial, model, found))
            print(
                log.name, family, trial, found, f"{time.perf_counter() - begin:.0f} s", flush=True
            )
        trial, model, found = min(tried, key=lambda one: one[2]["perplexity"])
        chosen[family] = trial
        row = {
            "log": log.name,
            "family": family,
            "part": "test",
            "split": log.split,
            "items": log.sizes.num_items,
            "train_events": sum(min(len(grids[0]), MAX_LEN) for grids in log.train),
            "validation_perplexity": found["perplexity"],
            "test_perplexity": judge(model, log, log.test)["perplexity"],
            **{f"chosen_{name}": setting for name, setting in trial.items()},
            "features": log.feature_source if family.startswith("content") else None,
        }
        if isinstance(model, hmm.HmmParams) and model.kernel is not None:
            row["kernel_weight"] = _kernel_weight(model)
            row |= {f"lag_{n}": w for n, w in enumerate(np.asarray(model.kernel.lags).tolist(), 1)}
        if "ndcg_at_10" in found:
            trial, model, _ = max(tried, key=lambda one: one[2]["ndcg_at_10"])
            ranking = judge(model, log, log.test)
            row |= {f"chosen_for_ranking_{name}": setting for name, setting in trial.items()}
            row |= {name: ranking[name] for name in ("ndcg_at_10", "hr_at_10")}
        yield row | {"seconds": time.perf_counter() - begin}
        for trial, _, found in tried:
            yield {"log": log.name, "family": family, "part": "validation"} | trial | found


def judge(model: hmm.HmmParams | Markov, log: Log, scored: Scored) -> dict:
    """Returns the perplexity of the scored events and, of last events, how they rank."""
    ranking: dict = {}
    if isinstance(model, Markov):
        value = model.value(scored)
    elif log.leave_one_out:
        value, ranking = judge_last(model, scored)
    else:
        value = model_value(model, scored)
    return {"perplexity": math.exp(-value)} | ranking


def _kernel_weight(params: hmm.HmmParams) -> float:
    """Share of all events in whose state the kernel chooses, where it can."""
    names = [str(action) for action in range(params.action.shape[1])]
    cards = hmm.describe_states(params, names)
    return sum(card["visit_share"] * card["kernel_weight"] for card in cards)


def judge_last(params: hmm.HmmParams, scored: Scored) -> tuple[float, dict]:
    """Returns the mean log p of the last events given the others, and how they rank.

    Full ranking, history masked, half ties.
    """
    ranks, values = [], []
    for first in range(0, len(scored), BATCH):
        part = scored[first : first + BATCH]
        histories = [grids[0][:-1] + NUM_SPECIALS for grids, _ in part]
        shorter = [(grids[0][:-1], grids[1][:-1], grids[2][:-1]) for grids, _ in part]
        events = events_of(shorter, False)
        scores = np.asarray(hmm.next_item_scores(params, events, leave_out=True))[: len(part)]
        targets = np.array([grids[0][-1] for grids, _ in part])
        values.append(scores[np.arange(len(part)), targets])
        scores = np.pad(scores, ((0, 0), (NUM_SPECIALS, 0)))
        ranks.append(rank_scores(scores, targets + NUM_SPECIALS, histories, mask_history=True))
    return float(np.concatenate(values).mean()), _means(np.concatenate(ranks))


def floor_row(log: Log, grid: CountingGrid) -> dict:
    """Returns the row of the counting floor, tuned by NDCG@10 on validation."""

    def examples(scored: Scored) -> list[Examples]:
        histories = [grids[0][:-1] + NUM_SPECIALS for grids, _ in scored]
        targets = np.array([grids[0][-1] for grids, _ in scored]) + NUM_SPECIALS
        return [
            Examples(histories[first : first + BATCH], targets[first : first + BATCH])
            for first in range(0, len(scored), BATCH)
        ]

    def sequences() -> Iterator[np.ndarray]:
        return (grids[0] + NUM_SPECIALS for grids in log.train)

    width = log.sizes.num_items + NUM_SPECIALS
    floor = fit_floor("counting", sequences, width, examples(log.validation), grid, True)
    ranks = rank_examples(floor, examples(log.test), mask_history=True)
    return {"log": log.name, "family": "counting_floor", "part": "test", "split": log.split} | {
        **{f"chosen_{name}": value for name, value in floor.settings.items()},
        **_means(ranks),
    }


def _means(ranks: np.ndarray) -> dict:
    metrics = metrics_per_user(ranks, (10,))
    return {name: float(metrics[name].mean()) for name in ("ndcg_at_10", "hr_at_10")}


def main() -> None:
    """Measures the logs one after another; --quick: 400 users of one log, two iterations."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--logs", nargs="+", default=list(real_logs.READERS))
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    arguments = parser.parse_args()
    names = arguments.logs[:1] if arguments.quick else arguments.logs
    rows: list[dict] = []

    def done(row: dict) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)

    for name in names:
        log = real_logs.read_log(
            name, arguments.data, 400 if arguments.quick else real_logs.MAX_USERS
        )
        if log.leave_one_out:
            done(floor_row(log, CountingGrid((3,), (0.5,)) if arguments.quick else CountingGrid()))
        quick = arguments.quick
        states, iterations = ((2, 4), 2) if quick else ((8, 32), ITERATIONS)
        kernel_axis: tuple[str, tuple] = ("mix_scale", (0.4, 1.0))
        if log.leave_one_out and not quick:
            kernel_axis = ("window", (5, 10))
        for row in measure(log, arguments.families, states, kernel_axis, iterations):
            done(row)
    write_record("hmm_perplexity", rows, arguments)


if __name__ == "__main__":
    main()
