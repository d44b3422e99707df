"""Learning: Baum-Welch over a stream of users, and counting where states are observed.

Users are packed several to a row on the host; the E-step and the M-step are in `counts`. Memory
does not grow with the number of users. Reading data and choosing settings do not live here.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.counts import (
    Counts,
    add_counts,
    estimate,
    log_prior,
    make_prior,
    reseed,
    zero_counts,
)
from recjax.hmm.emissions import observe
from recjax.hmm.events import Events, Layout, pack_events, time_major
from recjax.hmm.kernel import Kernel
from recjax.hmm.parameters import HmmParams, HmmSettings, HmmSizes, initial_params
from recjax.hmm.recursions import event_log_likelihood, forward
from recjax.hmm.validation import (
    validate_events,
    validate_item_category,
    validate_item_features,
    validate_params,
)

Batches = Callable[[], Iterable[Events]]
History = list[dict[str, float]]

_ROW_LEN = 128  # cells per packed row: long enough that little is left over at row ends


@functools.partial(jax.jit, static_argnames="leave_out")
def _layout_log_likelihood(params: HmmParams, layout: Layout, *, leave_out: bool) -> jax.Array:
    layout = time_major(jax.tree.map(jnp.asarray, layout))
    observation = observe(params, layout, leave_out=leave_out)
    alphas, norms = forward(params, layout, observation.likelihood)
    return event_log_likelihood(params, layout, observation, alphas, norms).sum()


def fit_baum_welch(
    key: jax.Array,
    batches: Batches,
    sizes: HmmSizes,
    settings: HmmSettings,
    *,
    held_out: Batches | None = None,
    kernel: Kernel | None = None,
    item_category: np.ndarray | None = None,
    item_features: np.ndarray | None = None,
    initial: HmmParams | None = None,
    reseed_empty: bool = False,
    place: Callable[[Layout], Layout] | None = None,
) -> tuple[HmmParams, History]:
    """Fits the model by Baum-Welch with pseudo-counts.

    Args:
        key: PRNG key of the random start and of re-seeding.
        batches: called once per pass; yields users on the host. Batches of one shape compile once.
        sizes: V, A and G.
        settings: see `HmmSettings`.
        held_out: users for early stop, not among those the kernel was counted from; None: the
            penalised likelihood of the training users decides.
        kernel: of `build_kernel`, counted from exactly these users (each event's own counts are
            taken out while it is being explained), or None.
        item_category: int [V]; given, items are emitted by way of their category.
        item_features: float [V, F]; given, items are emitted by what is known of them.
        initial: start here rather than at random.
        reseed_empty: put states that hardly any event reaches beside the fullest one; the
            likelihood may then fall for an iteration.
        place: puts a packed batch on devices, e.g. sharded over its rows (a multiple of 8).

    Returns:
        The parameters that were best on the held-out users (without them: the last), and one dict
        per iteration: iteration, log_likelihood and penalised (per event, of the parameters the
        iteration began with) and, where given, held_out (per event, after it).

    Raises:
        ValueError: if an id or a table is wrong, or there is no event at all.
    """
    validate_item_category(item_category, sizes.num_items)
    validate_item_features(item_features, sizes.num_items, item_category)
    popularity = _count_items(batches, sizes)
    init_key, seed_key = jax.random.split(key)
    params = initial
    if params is None:
        params = initial_params(
            init_key,
            sizes,
            settings,
            popularity=popularity,
            item_category=item_category,
            item_features=item_features,
            kernel=kernel,
        )
    validate_params(params)
    # One copy on the device for all iterations; the kernel must not travel with every batch.
    params = jax.tree.map(jnp.asarray, params)
    prior = make_prior(params, settings.smoothing, popularity)
    num_events, history, best = int(popularity.sum()), [], params
    for iteration in range(settings.num_iterations):
        counts, value = _pass(params, batches, None, place)
        penalised = value + float(log_prior(params, prior))
        row = {
            "iteration": float(iteration),
            "log_likelihood": value / num_events,
            "penalised": penalised / num_events,
        }
        params = estimate(params, counts, prior)
        if reseed_empty:
            params = reseed(jax.random.fold_in(seed_key, iteration), params, counts, prior)
        if held_out is not None:
            row["held_out"] = log_likelihood_per_event(params, held_out, place=place)
        history.append(row)
        measure = "penalised" if held_out is None else "held_out"
        gain = row[measure] - max((h[measure] for h in history[:-1]), default=-np.inf)
        if held_out is None or gain > 0:
            best = params
        if gain < settings.tolerance:
            break
    return best, history


def fit_counts(
    batches: Batches,
    sizes: HmmSizes,
    settings: HmmSettings,
    *,
    states_of: Callable[[Events], np.ndarray],
    kernel: Kernel | None = None,
    item_category: np.ndarray | None = None,
    item_features: np.ndarray | None = None,
) -> HmmParams:
    """Fits the model by counting, for states that are observed.

    Args:
        batches: called once per pass; yields users on the host.
        sizes: V, A and G.
        settings: reads num_states and smoothing; num_iterations with a kernel, whose part in each
            item is never observed.
        states_of: gives int [B, T] of a batch, e.g. its actions; -1 marks a state not known.
        kernel: of `build_kernel`, counted from these users, or None.
        item_category: int [V]; given, items are emitted by way of their category.
        item_features: float [V, F]; given, items are emitted by what is known of them.

    Raises:
        ValueError: if an id is out of range or there is no event at all.
    """
    validate_item_category(item_category, sizes.num_items)
    validate_item_features(item_features, sizes.num_items, item_category)
    popularity = _count_items(batches, sizes)
    params = initial_params(
        jax.random.key(0),
        sizes,
        settings,
        popularity=popularity,
        item_category=item_category,
        item_features=item_features,
        kernel=kernel,
    )
    params = jax.tree.map(jnp.asarray, params)
    prior = make_prior(params, settings.smoothing, popularity)

    def checked_states(events: Events) -> np.ndarray:
        states = np.asarray(states_of(events))
        if states.min(initial=-1) < -1 or states.max(initial=-1) >= settings.num_states:
            raise ValueError(
                f"states lie in {states.min()}..{states.max()}: expected below "
                f"{settings.num_states}, or -1"
            )
        return states

    for _ in range(1 if kernel is None else settings.num_iterations):
        counts, _ = _pass(params, batches, checked_states, None)
        params = estimate(params, counts, prior)
    return params


def log_likelihood_per_event(
    params: HmmParams,
    batches: Batches,
    *,
    leave_out: bool = False,
    place: Callable[[Layout], Layout] | None = None,
) -> float:
    """Returns the log-likelihood of a stream of users over their number of events.

    Raises:
        ValueError: if an id is out of range or there is no event at all.
    """
    values, num_events = [], 0
    for layout in _packed(batches(), params.sizes, None):
        num_events += int((layout.positions >= 0).sum())
        layout = layout if place is None else place(layout)
        values.append(_layout_log_likelihood(params, layout, leave_out=leave_out))
    if not num_events:
        raise ValueError("no events: every user is empty")
    return float(np.sum(np.asarray(jax.device_get(values), np.float64))) / num_events


def _pass(
    params: HmmParams,
    batches: Batches,
    states_of: Callable[[Events], np.ndarray] | None,
    place: Callable[[Layout], Layout] | None,
) -> tuple[Counts, float]:
    """Expected counts and log-likelihood of all users, one batch on the device at a time."""
    counts, values = zero_counts(params), []
    for layout in _packed(batches(), None, states_of):
        layout = layout if place is None else place(layout)
        counts, value = add_counts(counts, params, layout)
        values.append(value)  # not read yet: reading would wait for the device
    return counts, float(np.sum(np.asarray(jax.device_get(values), np.float64)))


def _packed(
    batches: Iterable[Events],
    sizes: HmmSizes | None,
    states_of: Callable[[Events], np.ndarray] | None,
) -> Iterable[Layout]:
    """Packs users in rows; the shape follows from the first batch: equal ones compile once."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return iter(())

    def stream() -> Iterable[Events]:
        for events in itertools.chain([first], iterator):
            if sizes is not None:
                validate_events(events, sizes)
            yield events

    num_rows, num_steps = np.asarray(first.items).shape
    row_len = max(num_steps, _ROW_LEN)
    rows = -(-num_rows * num_steps // row_len)
    return pack_events(stream(), -(-rows // 8) * 8, row_len, states_of)


def _count_items(batches: Batches, sizes: HmmSizes) -> np.ndarray:
    """Events per item [V]; the pass that also checks every id."""
    popularity = np.zeros(sizes.num_items, np.int64)
    for events in batches():
        validate_events(events, sizes)
        kept = np.arange(events.items.shape[1])[None, :] < np.asarray(events.lengths)[:, None]
        popularity += np.bincount(np.asarray(events.items)[kept], minlength=sizes.num_items)
    if not popularity.sum():
        raise ValueError("no events: every user is empty")
    return popularity
