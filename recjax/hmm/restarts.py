"""Several starts and several numbers of states at once: all are fitted together, the best is kept.

Members are padded to one K and stacked (`members`), so that an iteration reads the users once for
all of them and compiles once. A single fit is in `learning`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.counts import Counts, Prior, make_prior, reseed
from recjax.hmm.expectation import plan_rows
from recjax.hmm.kernel import Kernel
from recjax.hmm.learning import History, checked_start
from recjax.hmm.members import (
    add_member_counts,
    estimate_members,
    member_log_likelihood,
    select_members,
    stack_members,
    take_member,
    zero_member_counts,
)
from recjax.hmm.parameters import HmmParams, HmmSettings, HmmSizes
from recjax.hmm.passes import Batches, Place, RunningSum, count_events, count_items, packed

Start = Callable[[jax.Array, HmmSettings], HmmParams]


@dataclasses.dataclass(frozen=True)
class Member:
    """One fit among several.

    Attributes:
        num_states: its own K.
        restart: 0, 1, ... among those of this K.
        held_out: best log-likelihood per event of the held-out users.
        history: as of `fit_baum_welch`.
    """

    num_states: int
    restart: int
    held_out: float
    history: History


def fit_restarts(
    key: jax.Array,
    batches: Batches,
    sizes: HmmSizes,
    settings: HmmSettings,
    *,
    held_out: Batches,
    state_counts: Sequence[int] | None = None,
    num_restarts: int = 1,
    start: Start | None = None,
    kernel: Kernel | None = None,
    item_category: np.ndarray | None = None,
    item_features: np.ndarray | None = None,
    reseed_empty: bool = False,
    place: Place | None = None,
) -> tuple[HmmParams, list[Member]]:
    """Fits models of several sizes and starts together, and chooses by held-out likelihood.

    Member m, state counts before restarts, is the fit `fit_baum_welch(fold_in(key, m), ...)`. One
    that no longer gains is kept as it was, though still computed until the last one stops. Memory
    and work are those of a fit with members x largest K states.

    Args:
        key: PRNG key of the starts and of re-seeding.
        batches: called once per pass; yields users on the host. Batches of one shape compile once.
        sizes: V, A, G and S.
        settings: see `HmmSettings`; num_states is used where state_counts is None.
        held_out: users for early stop and choice, not among those the kernel was counted from.
        state_counts: the numbers of states K to try.
        num_restarts: starts per number of states.
        start: makes a start from a key and settings with the member's num_states, e.g. by
            `kmeans_params`; all of one family. None: random.
        kernel: as of `fit_baum_welch`; its lag weights are each member's own, its pairs shared.
        item_category: int [V]; given, items are emitted by way of their category.
        item_features: float [V, F]; given, items are emitted by what is known of them.
        reseed_empty: put states that hardly any event reaches beside the fullest one (on the host).
        place: puts a packed batch on devices, e.g. sharded over its rows (a multiple of 8).

    Returns:
        The parameters of the best member where it was best, with its own K states, and all members.

    Raises:
        ValueError: if an argument, an id or a table is wrong, or there is no event at all.
    """
    state_counts = (settings.num_states,) if state_counts is None else tuple(state_counts)
    _check_members(state_counts, num_restarts)
    popularity = count_items(batches, sizes)
    kernel = jax.tree.map(jnp.asarray, kernel)  # one copy on the device, not one per start
    starts, seed_keys = [], []
    sizes_of_members = [num_states for num_states in state_counts for _ in range(num_restarts)]
    for index, num_states in enumerate(sizes_of_members):
        init_key, seed_key = jax.random.split(jax.random.fold_in(key, index))
        own = dataclasses.replace(settings, num_states=num_states)
        made = checked_start(
            init_key,
            sizes,
            own,
            popularity,
            kernel=kernel,
            item_category=item_category,
            item_features=item_features,
            initial=None if start is None else start(init_key, own),
        )
        starts.append(made)
        seed_keys.append(seed_key)
    fit = _Fit(starts, settings, popularity, seed_keys if reseed_empty else None)
    del starts
    for iteration in range(settings.num_iterations):
        fit.iterate(iteration, batches, held_out, place)
        if not fit.active.any():
            break
    return fit.result(num_restarts)


def _check_members(state_counts: tuple[int, ...], num_restarts: int) -> None:
    if not state_counts:
        raise ValueError("state_counts is empty: expected at least one number of states")
    for index, num_states in enumerate(state_counts):
        if num_states < 1:
            raise ValueError(f"state_counts[{index}] = {num_states}: expected at least 1")
    if num_restarts < 1:
        raise ValueError(f"num_restarts = {num_restarts}: expected at least 1")


class _Fit:
    """The members on their way: where they are, where each was best, and which still gain."""

    def __init__(
        self,
        starts: list[HmmParams],
        settings: HmmSettings,
        popularity: np.ndarray,
        seed_keys: list[jax.Array] | None,
    ):
        self._num_states, self._sizes = [start.num_states for start in starts], starts[0].sizes
        self._members = stack_members(starts)
        self._best = self._members
        most = max(self._num_states)
        prior = make_prior(take_member(self._members, 0), settings.smoothing, popularity)
        alive = np.arange(most)[None, :] < np.asarray(self._num_states)[:, None]
        self._prior = dataclasses.replace(prior, alive=alive.astype(np.float32))
        self._tolerance, self._num_events = settings.tolerance, int(popularity.sum())
        self._seed_keys = seed_keys
        self._histories: list[History] = [[] for _ in starts]
        self.active = np.ones(len(starts), bool)

    def iterate(
        self, iteration: int, batches: Batches, held_out: Batches, place: Place | None
    ) -> None:
        """One pass over the users, the M-step, and one pass over the held-out users."""
        counts, values = zero_member_counts(self._members), RunningSum()
        for layout in packed(batches(), place=place):
            plan = plan_rows(layout)
            counts, value = add_member_counts(counts, self._members, layout, plan=plan)
            values.add(value)
        self._members, log_priors = estimate_members(
            self._members, counts, self._prior, self.active
        )
        if self._seed_keys is not None:
            self._reseed(iteration, counts)
        per_event = values.result() / self._num_events
        penalised = per_event + np.asarray(log_priors, np.float64) / self._num_events
        found = _held_out_per_event(self._members, self._sizes, held_out, place)
        gained = self.active.copy()
        for index in np.flatnonzero(self.active):
            before = max((row["held_out"] for row in self._histories[index]), default=-np.inf)
            row = {"iteration": float(iteration), "log_likelihood": float(per_event[index])}
            row |= {"penalised": float(penalised[index]), "held_out": float(found[index])}
            self._histories[index].append(row)
            gained[index] = found[index] > before
            self.active[index] = found[index] - before >= self._tolerance
        self._best = select_members(gained, self._members, self._best)

    def _reseed(self, iteration: int, counts: Counts) -> None:
        assert self._seed_keys is not None
        changed = []
        for index, seed_key in enumerate(self._seed_keys):
            member = take_member(self._members, index)
            if self.active[index]:
                own = jax.tree.map(lambda leaf, index=index: leaf[index], counts)
                prior = Prior(self._prior.smoothing, self._prior.items, self._prior.alive[index])
                member = reseed(jax.random.fold_in(seed_key, iteration), member, own, prior)
            changed.append(member)
        self._members = stack_members(changed)

    def result(self, num_restarts: int) -> tuple[HmmParams, list[Member]]:
        """The best member where it was best, and what became of all."""
        members = [
            Member(num_states, index % num_restarts, max(row["held_out"] for row in rows), rows)
            for index, (num_states, rows) in enumerate(
                zip(self._num_states, self._histories, strict=True)
            )
        ]
        best = int(np.argmax([member.held_out for member in members]))
        return take_member(self._best, best, self._num_states[best]), members


def _held_out_per_event(
    members: HmmParams, sizes: HmmSizes, held_out: Batches, place: Place | None
) -> np.ndarray:
    values, num_events = RunningSum(), 0
    for layout in packed(held_out(), sizes=sizes):
        num_events += count_events(layout)
        layout = layout if place is None else place(layout)
        values.add(member_log_likelihood(members, layout))
    if not num_events:
        raise ValueError("no events: every held-out user is empty")
    return values.result() / num_events
