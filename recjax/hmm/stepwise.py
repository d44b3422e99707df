"""Stepwise EM: the parameters move after every mini-batch, for logs too long to read many times.

Expected counts of the whole log are a running mean S <- (1 - eta) S + eta (N / n) s of those of the
mini-batches (n of N events each). Kept is U with S = a U, so that a step scales the tables once and
scatters into them. Batch EM is in `learning`, the E-step and the M-step in `counts`.

Reference:
    Cappé and Moulines (2009), "On-line expectation-maximization algorithm for latent data models",
    for the recursion and its steps; Liang and Klein (2009), "Online EM for Unsupervised Models",
    for mini-batches, several passes and the scaled sums.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import numpy as np

from recjax.hmm.counts import Counts, Prior, estimate, make_prior, zero_counts
from recjax.hmm.events import Layout
from recjax.hmm.expectation import WHOLE, RowPlan, add_counts, plan_rows
from recjax.hmm.kernel import Kernel
from recjax.hmm.learning import History, checked_start
from recjax.hmm.parameters import HmmParams, HmmSettings, HmmSizes
from recjax.hmm.passes import (
    Batches,
    EarlyStop,
    Place,
    RunningSum,
    count_events,
    count_items,
    log_likelihood_per_event,
    packed,
)


def fit_stepwise(
    key: jax.Array,
    batches: Batches,
    sizes: HmmSizes,
    settings: HmmSettings,
    *,
    step_exponent: float = 0.6,
    step_offset: float = 2.0,
    evaluate_every: int | None = None,
    held_out: Batches | None = None,
    kernel: Kernel | None = None,
    item_category: np.ndarray | None = None,
    item_features: np.ndarray | None = None,
    initial: HmmParams | None = None,
    popularity: np.ndarray | None = None,
    place: Place | None = None,
) -> tuple[HmmParams, History]:
    """Fits the model by stepwise EM with pseudo-counts.

    A mini-batch is one packed batch: about as many cells as the first batch of the stream. Memory:
    the tables four times over (counts, parameters before, after and best) and a few packed batches,
    whatever the number of users.

    Args:
        key: PRNG key of the random start.
        batches: called once per pass, e.g. `lambda: map(to_events, loader)` of a Grain loader.
            Users should come in random order, which may differ from pass to pass.
        sizes: V, A, G and S.
        settings: num_iterations is the largest number of passes, tolerance is between evaluations.
        step_exponent: kappa in (0.5, 1] of the steps eta_t = (t + t0)^-kappa, t = 1, 2, ...; small
            forgets the early parameters faster, large averages more.
        step_offset: t0 >= 0. The mean is over its total weight, so that pseudo-counts do not
            outweigh the first mini-batches. A mini-batch with fewer events than the largest, the
            rest of a pass, makes its share of a step: 1 - (1 - eta)^(share of events).
        evaluate_every: steps between two rows of the history, and so between chances to stop,
            beside the one at the end of every pass; needs `held_out`.
        held_out: users for early stop, not among those the kernel was counted from; None: the
            likelihood of the training users, met on the way, decides.
        kernel: as of `fit_baum_welch`.
        item_category: int [V]; given, items are emitted by way of their category.
        item_features: float [V, F]; given, items are emitted by what is known of them.
        initial: start here rather than at random, e.g. at the result of `fit_counts`.
        popularity: events per item int [V] of one pass; None: one more pass counts them.
        place: puts a packed batch on devices, e.g. sharded over its rows (a multiple of 8).

    Returns:
        The parameters that were best on the held-out users (without them: the last), and one dict
        per evaluation: iteration (the pass), step, log_likelihood (per event, mean since the row
        before, each mini-batch under the parameters it met) and, where given, held_out.

    Raises:
        ValueError: if an argument, an id or a table is wrong, or there is no event at all.
    """
    _check_steps(step_exponent, step_offset, evaluate_every, held_out)
    popularity = _checked_popularity(popularity, batches, sizes)
    params = checked_start(
        key,
        sizes,
        settings,
        popularity,
        kernel=kernel,
        item_category=item_category,
        item_features=item_features,
        initial=initial,
    )
    prior = make_prior(params, settings.smoothing, popularity)
    schedule = _Schedule(step_exponent, step_offset, int(popularity.sum()))
    measure = "log_likelihood" if held_out is None else "held_out"
    progress = EarlyStop(params, measure, settings.tolerance)
    sums, value, num_events = zero_counts(params), RunningSum(), 0
    for iteration, layout, ends in _stream(batches, sizes, settings.num_iterations):
        factor, scale = schedule.next(count_events(layout))
        num_events += count_events(layout)
        layout = layout if place is None else place(layout)
        plan = plan_rows(layout)
        sums, params, here = _step(sums, params, prior, layout, factor, scale, plan=plan)
        value.add(here)
        if not ends and (evaluate_every is None or schedule.step % evaluate_every):
            continue
        row = {"iteration": float(iteration), "step": float(schedule.step)}
        row["log_likelihood"] = float(value.result()) / num_events
        if held_out is not None:
            row["held_out"] = log_likelihood_per_event(params, held_out, place=place)
        if progress.is_over(row, params):
            break
        value, num_events = RunningSum(), 0
    return progress.best, progress.history


def _check_steps(
    step_exponent: float, step_offset: float, evaluate_every: int | None, held_out: Batches | None
) -> None:
    if not 0.5 < step_exponent <= 1:
        raise ValueError(f"step_exponent = {step_exponent}: expected 0.5 < kappa <= 1")
    if not (np.isfinite(step_offset) and step_offset >= 0):
        raise ValueError(f"step_offset = {step_offset}: expected a finite number >= 0")
    if evaluate_every is not None and evaluate_every < 1:
        raise ValueError(f"evaluate_every = {evaluate_every}: expected at least 1")
    if evaluate_every is not None and held_out is None:
        raise ValueError(f"evaluate_every = {evaluate_every}: expected held_out users with it")


def _checked_popularity(
    popularity: np.ndarray | None, batches: Batches, sizes: HmmSizes
) -> np.ndarray:
    if popularity is None:
        return count_items(batches, sizes)
    popularity = np.asarray(popularity)
    if popularity.shape != (sizes.num_items,):
        raise ValueError(f"popularity has shape {popularity.shape}: expected ({sizes.num_items},)")
    wrong = np.flatnonzero(~(popularity >= 0))
    if wrong.size:
        raise ValueError(f"popularity[{wrong[0]}] = {popularity[wrong[0]]}: expected >= 0")
    if not popularity.sum():
        raise ValueError("no events: popularity is 0 everywhere")
    return popularity


class _Schedule:
    """Step sizes, and what they make of the sums: U <- factor U + s, then S = scale U."""

    def __init__(self, exponent: float, offset: float, num_events: int):
        self._exponent, self._offset, self._num_events = exponent, offset, num_events
        self._largest = 0  # events of the largest mini-batch so far
        self._weight = 0.0  # total weight of the mini-batches in the mean
        self._scale = 0.0  # a of S = a U, before S is divided by that weight
        self.step = 0

    def next(self, num_events: int) -> tuple[np.float32, np.float32]:
        """Returns factor and scale of the next step, a mini-batch of this many events."""
        self.step += 1
        self._largest = max(self._largest, num_events)
        eta = (self.step + self._offset) ** -self._exponent
        eta = 1 - (1 - eta) ** (num_events / self._largest)
        scale = eta * self._num_events / num_events
        factor = (1 - eta) * self._scale / scale
        self._scale, self._weight = scale, (1 - eta) * self._weight + eta
        return np.float32(factor), np.float32(scale / self._weight)


@functools.partial(jax.jit, donate_argnums=0, static_argnames="plan")
def _step(
    sums: Counts,
    params: HmmParams,
    prior: Prior,
    layout: Layout,
    factor: jax.Array,
    scale: jax.Array,
    *,
    plan: RowPlan = WHOLE,
) -> tuple[Counts, HmmParams, jax.Array]:
    """One mini-batch: the new sums, parameters, and its log-likelihood under the old ones."""
    scaled = jax.tree.map(lambda leaf: factor * leaf, sums)
    sums, value = add_counts(scaled, params, layout, plan=plan)
    return sums, estimate(params, jax.tree.map(lambda leaf: scale * leaf, sums), prior), value


def _stream(
    batches: Batches, sizes: HmmSizes, num_passes: int
) -> Iterator[tuple[int, Layout, bool]]:
    """Yields (pass, packed batch, whether it ends its pass)."""
    for iteration in range(num_passes):
        waiting: Layout | None = None
        for layout in packed(batches(), sizes=sizes):
            if waiting is not None:
                yield iteration, waiting, False
            waiting = layout
        if waiting is None:
            raise ValueError("no events: every user is empty")
        yield iteration, waiting, True
