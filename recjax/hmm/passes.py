"""Passes over a stream of users: packing, expected counts and likelihood, in bounded memory.

A stream is a callable that yields batches on the host, once per call. Users are packed several to a
row; one packed batch at a time is on the device. What the counts mean is said in `counts`, who asks
for a pass in `learning`, `stepwise` and `restarts`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.counts import Counts, zero_counts
from recjax.hmm.emissions import observe
from recjax.hmm.events import Events, Layout, pack_events, time_major
from recjax.hmm.expectation import add_counts, plan_rows
from recjax.hmm.parameters import HmmParams, HmmSizes
from recjax.hmm.recursions import event_log_likelihood, forward
from recjax.hmm.state_chain import Chain
from recjax.hmm.validation import validate_events

Batches = Callable[[], Iterable[Events]]
Place = Callable[[Layout], Layout]

_ROW_LEN = 128  # cells per packed row: long enough that little is left over at row ends
_MAX_AHEAD = 16  # batches sent to the device before the first of them is waited for


class RunningSum:
    """A sum in float64 of values that the device may still be computing.

    Reading each at once would wait for the device, reading none would let the host run ahead and
    hold a packed batch for each; so a few are left unread.
    """

    def __init__(self) -> None:
        self._total: float | np.ndarray = 0.0
        self._unread: list[jax.Array] = []

    def add(self, value: jax.Array) -> None:
        """Adds a value [] or [M]."""
        self._unread.append(value)
        if len(self._unread) >= _MAX_AHEAD:
            self._read()

    def result(self) -> np.ndarray:
        """Returns the sum, float64 of the values' shape."""
        self._read()
        return np.asarray(self._total)

    def _read(self) -> None:
        for value in jax.device_get(self._unread):
            self._total = self._total + np.asarray(value, np.float64)
        self._unread = []


class EarlyStop:
    """Follows a fit by one measure: keeps its history and its best parameters.

    Attributes:
        history: one dict of figures per evaluation.
        best: parameters that were best on held-out users; without these, the last.
    """

    def __init__(self, params: HmmParams, measure: str, tolerance: float):
        self.history: list[dict[str, float]] = []
        self.best = params
        self._measure, self._tolerance = measure, tolerance

    def is_over(self, row: dict[str, float], params: HmmParams) -> bool:
        """Notes an evaluation; returns whether it gained less than the tolerance on the best."""
        best_before = max((known[self._measure] for known in self.history), default=-np.inf)
        self.history.append(row)
        gain = row[self._measure] - best_before
        if self._measure != "held_out" or gain > 0:
            self.best = params
        return gain < self._tolerance


def expected_counts(
    params: HmmParams,
    batches: Batches,
    *,
    states_of: Callable[[Events], np.ndarray] | None = None,
    place: Place | None = None,
) -> tuple[Counts, float]:
    """Returns expected counts and log-likelihood of all users (ids are not checked here).

    Args:
        params: the model.
        batches: called once.
        states_of: gives the observed states int [B, T] of a batch; None: they are hidden.
        place: puts a packed batch on devices.
    """
    counts, value = zero_counts(params), RunningSum()
    for layout in packed(batches(), states_of=states_of, place=place):
        plan = plan_rows(layout)
        counts, here = add_counts(counts, params, layout, plan=plan)
        value.add(here)
    return counts, float(value.result())


def log_likelihood_per_event(
    params: HmmParams,
    batches: Batches,
    *,
    leave_out: bool = False,
    place: Place | None = None,
) -> float:
    """Returns the log-likelihood of a stream of users over their number of events.

    Raises:
        ValueError: if an id is out of range or there is no event at all.
    """
    value, num_events = RunningSum(), 0
    for layout in packed(batches(), sizes=params.sizes):
        num_events += count_events(layout)
        layout = layout if place is None else place(layout)
        value.add(layout_log_likelihood(params, layout, leave_out=leave_out))
    if not num_events:
        raise ValueError("no events: every user is empty")
    return float(value.result()) / num_events


@functools.partial(jax.jit, static_argnames="leave_out")
def layout_log_likelihood(params: HmmParams, layout: Layout, *, leave_out: bool) -> jax.Array:
    """Returns the log-likelihood [] of a layout [B, T]; `leave_out` (static) as in `observe`."""
    layout = time_major(jax.tree.map(jnp.asarray, layout))
    observation = observe(params, layout, leave_out=leave_out)
    alphas, norms = forward(params, layout, observation.likelihood)
    return event_log_likelihood(layout, observation, norms, Chain.of(params).end(alphas)).sum()


def packed(
    batches: Iterable[Events],
    *,
    sizes: HmmSizes | None = None,
    states_of: Callable[[Events], np.ndarray] | None = None,
    place: Place | None = None,
) -> Iterator[Layout]:
    """Yields users packed in rows, in a shape that follows from the first batch.

    Args:
        batches: users on the host.
        sizes: check ids against these; None: they were checked.
        states_of: gives the observed states int [B, T] of a batch; None: they are hidden.
        place: puts a packed batch on devices.

    Raises:
        ValueError: if an id is out of range, or a user is longer than those of the first batch and
            than a row.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return

    def stream() -> Iterator[Events]:
        for events in itertools.chain([first], iterator):
            if sizes is not None:
                validate_events(events, sizes)
            yield events

    num_rows, num_steps = np.asarray(first.items).shape
    row_len = max(num_steps, _ROW_LEN)
    rows = -(-num_rows * num_steps // row_len)
    for layout in pack_events(stream(), -(-rows // 8) * 8, row_len, states_of):
        yield layout if place is None else place(layout)


def count_events(layout: Layout) -> int:
    """Returns the number of events in a packed batch [B, T] on the host."""
    return int((layout.positions >= 0).sum())


def count_items(batches: Batches, sizes: HmmSizes) -> np.ndarray:
    """Returns events per item int64 [V]; the pass that also checks every id.

    Raises:
        ValueError: if an id is out of range or there is no event at all.
    """
    popularity = np.zeros(sizes.num_items, np.int64)
    for events in batches():
        validate_events(events, sizes)
        kept = np.arange(events.items.shape[1])[None, :] < np.asarray(events.lengths)[:, None]
        popularity += np.bincount(np.asarray(events.items)[kept], minlength=sizes.num_items)
    if not popularity.sum():
        raise ValueError("no events: every user is empty")
    return popularity
