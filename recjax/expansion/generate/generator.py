"""The fitted generator that all HMM strategies of one seed share: model, item ids, clock, band.

Not here: the model itself (`recjax.hmm`), what is drawn from it (the strategies `hmm_...`) and its
file (`generator_file`).
The generator knows only the items that occur in training, so that no smoothing can make it draw
another one. Called by the expand stage: fit once per seed, save, hand to the strategies.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.clock import Clock, fit_clock
from recjax.expansion.generate.event_batches import EventBatches, make_events
from recjax.expansion.generate.item_facts import Emission, ItemFacts
from recjax.expansion.records import Record, RecordSource, pick_evenly

_HELD_OUT_SHARE = 0.05
_MAX_HELD_OUT = 4096  # users; a quantile of 0.005 rests on 20 of them
_CLOCK_USERS = 20_000
_STARTS = ("random", "kmeans")


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Settings of the generator; names equal the keys of `config.expansion.hmm`.

    Attributes:
        num_states, num_iterations, tolerance, kernel_window, kernel_neighbours, kernel_backward,
            kernel_damping, smoothing, max_duration: see `recjax.hmm.HmmSettings`.
        kernel_share: probability that the kernel chooses the item, in every state, below 1; 0: as
            learned. Likelihood learns a small share from few users, since a state's own items
            surprise less; draws that are to teach a model pairs of items need a large one.
        items: what carries the items, see `ItemFacts.emission`.
        start: "random", or "kmeans" over the users' histories.
        num_restarts: starts fitted together; the held-out users choose.
        max_len: events per user, in the fit and at most in a draw.
        batch_size: users per batch, in the fit and in draws.
        temperature: 1 draws from the model, less plays safe.
        no_repeats: no item twice in one draw.
    """

    num_states: int
    num_iterations: int
    tolerance: float
    kernel_window: int
    kernel_neighbours: int
    kernel_backward: float
    kernel_damping: float
    smoothing: float
    kernel_share: float
    max_duration: int
    items: str
    start: str
    num_restarts: int
    max_len: int
    batch_size: int
    temperature: float
    no_repeats: bool

    def make_settings(self) -> hmm.HmmSettings:
        """Returns those of them that the HMM reads."""
        names = [field.name for field in dataclasses.fields(hmm.HmmSettings)]
        return hmm.HmmSettings(**{name: getattr(self, name) for name in names})


@dataclasses.dataclass(frozen=True)
class GeneratorState:
    """A fitted generator.

    Attributes:
        config: how it was fitted and how it draws.
        params: the HMM over item indices 0..N - 1.
        item_ids: int32 [N], rising, the item id of every index.
        clock: real gap lengths and starts.
        held_out_scores: float32 [H], log-likelihood per event of real users outside the fit.
        history: float64 [iterations, 2], log-likelihood per event of fit and held-out users.
    """

    config: GeneratorConfig
    params: hmm.HmmParams
    item_ids: np.ndarray
    clock: Clock
    held_out_scores: np.ndarray
    history: np.ndarray

    @property
    def num_gap_bins(self) -> int:
        """G."""
        return self.params.sizes.num_gap_bins

    @functools.cached_property
    def item_index(self) -> np.ndarray:
        """int32 [largest id + 1], the index of every item id; -1 for ids never seen."""
        index = np.full(int(self.item_ids[-1]) + 1, -1, np.int32)
        index[self.item_ids] = np.arange(len(self.item_ids))
        return index

    @functools.cached_property
    def tables(self) -> hmm.SamplingTables:
        """What draws read, on the device; built once, at the first draw."""
        return jax.tree.map(
            jax.numpy.asarray, hmm.make_tables(self.params, self.config.temperature)
        )

    def make_events(self, records: Sequence[Record], num_rows: int, max_len: int) -> hmm.Events:
        """Returns records as events of this model [num_rows, max_len], empty rows last."""
        return make_events(
            records,
            self.item_index,
            num_rows=num_rows,
            max_len=max_len,
            num_gap_bins=self.num_gap_bins,
        )

    def score(self, records: Sequence[Record]) -> np.ndarray:
        """Returns float64 [B], the log-likelihood per event of records (their last T events).

        Records with ids that the model does not know, and empty ones, get NaN.
        """
        size, scores = self.config.batch_size, np.full(len(records), np.nan)
        known = [row for row, record in enumerate(records) if self._knows(record)]
        for start in range(0, len(known), size):
            rows = known[start : start + size]
            events = self.make_events([records[row] for row in rows], size, self.config.max_len)
            totals = np.asarray(_log_likelihood(self.params, events), np.float64)[: len(rows)]
            scores[rows] = totals / events.lengths[: len(rows)]
        return scores

    def _knows(self, record: Record) -> bool:
        items, actions = record["items"], record["actions"]
        return (
            len(items) > 0
            and bool(np.all((items >= 0) & (items < len(self.item_index))))
            and bool(np.all(self.item_index[items] >= 0))
            and bool(np.all((actions >= 0) & (actions < self.params.sizes.num_actions)))
        )


@jax.jit
def _log_likelihood(params: hmm.HmmParams, events: hmm.Events) -> jax.Array:
    # jitted here although it is jitted there: under a trace the tables are not checked every time
    return hmm.log_likelihood(params, events)


def fit_generator(
    source: RecordSource,
    config: GeneratorConfig,
    seed: int,
    *,
    vocab_size: int,
    num_actions: int,
    num_gap_bins: int,
    facts: ItemFacts,
) -> GeneratorState:
    """Returns the generator fitted on the training part.

    One user in twenty (at most 4096, evenly spread, the same for every seed) is held out: they end
    the iterations and give the likelihood band. The kernel is counted without them too.

    Args:
        source: training records.
        config: settings.
        seed: start of Baum-Welch.
        vocab_size: V, item ids with the specials.
        num_actions: A.
        num_gap_bins: G.
        facts: what is known of the items.

    Raises:
        ValueError: if there is no user to fit on, or a setting asks for what is not there.
    """
    if not 0 <= config.kernel_share < 1:
        raise ValueError(f"hmm.kernel_share is {config.kernel_share}; must be from 0 to below 1")
    if not len(source):
        raise ValueError("no training users: the generator has nothing to learn from")
    item_ids = find_item_ids(source, vocab_size)
    index = np.full(vocab_size, -1, np.int32)
    index[item_ids] = np.arange(len(item_ids))
    held_out, fitted = split_users(len(source))
    shape = {
        "batch_size": config.batch_size, "max_len": config.max_len, "num_gap_bins": num_gap_bins
    }  # fmt: skip
    batches = EventBatches(source, fitted, index, **shape)
    check = EventBatches(source, held_out, index, **shape) if len(held_out) else None
    params, history = _fit(
        jax.random.fold_in(jax.random.key(seed), 0),
        batches,
        hmm.HmmSizes(len(item_ids), num_actions, num_gap_bins),
        config,
        check,
        facts.emission(config.items, item_ids),
    )
    if config.kernel_share:
        mix = jax.numpy.full_like(params.mix, config.kernel_share)
        params = dataclasses.replace(params, mix=mix)
    clock = fit_clock(pick_evenly(source, _CLOCK_USERS), num_gap_bins)
    rows = [[row["log_likelihood"], row.get("held_out", np.nan)] for row in history]
    state = GeneratorState(
        config, params, item_ids, clock, np.zeros(0, np.float32), np.array(rows).reshape(-1, 2)
    )
    scores = state.score([source[int(user)] for user in held_out])
    return dataclasses.replace(state, held_out_scores=scores[np.isfinite(scores)].astype("f4"))


def _fit(
    key: jax.Array,
    batches: EventBatches,
    sizes: hmm.HmmSizes,
    config: GeneratorConfig,
    held_out: EventBatches | None,
    emission: Emission,
) -> tuple[hmm.HmmParams, list[dict[str, float]]]:
    """Fits as many starts as are asked for; returns the best and its history."""
    if config.start not in _STARTS:
        raise ValueError(f"hmm.start = {config.start!r} is unknown; known: {', '.join(_STARTS)}")
    settings = config.make_settings()
    kernel = hmm.build_kernel(batches(), sizes.num_items, settings)

    def cluster(key: jax.Array, settings: hmm.HmmSettings) -> hmm.HmmParams:
        return hmm.kmeans_params(key, batches, sizes, settings, kernel=kernel, **emission)

    start = cluster if config.start == "kmeans" else None
    if config.num_restarts == 1:
        initial = None if start is None else start(key, settings)
        return hmm.fit_baum_welch(
            key, batches, sizes, settings, held_out=held_out, kernel=kernel, initial=initial,
            **emission,
        )  # fmt: skip
    if held_out is None:
        raise ValueError(
            f"hmm.num_restarts = {config.num_restarts}: too few users to hold some out and choose "
            "among starts; set it to 1"
        )
    params, members = hmm.fit_restarts(
        key, batches, sizes, settings, held_out=held_out, num_restarts=config.num_restarts,
        start=start, kernel=kernel, **emission,
    )  # fmt: skip
    return params, max(members, key=lambda member: member.held_out).history


def split_users(num_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of held-out users and of the others, int64 each; none of few users."""
    held_out = min(int(num_users * _HELD_OUT_SHARE), _MAX_HELD_OUT)
    places = (np.arange(held_out) + 0.5) * num_users / max(held_out, 1)
    places = places.astype(np.int64)
    return places, np.setdiff1d(np.arange(num_users), places)


def find_item_ids(source: RecordSource, vocab_size: int) -> np.ndarray:
    """Returns int32 [N], the item ids that occur in training, rising."""
    seen = np.zeros(vocab_size, bool)
    for user in range(len(source)):
        seen[source[user]["items"]] = True
    return np.nonzero(seen)[0].astype(np.int32)
