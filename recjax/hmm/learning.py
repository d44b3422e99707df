"""Learning: Baum-Welch over a stream of users, and counting where states are observed.

The E-step and the M-step are in `counts`, packing and passes over the data in `passes`. Memory does
not grow with the number of users. Reading data and choosing settings do not live here.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.counts import estimate, log_prior, make_prior, reseed
from recjax.hmm.events import Events, Layout
from recjax.hmm.kernel import Kernel
from recjax.hmm.parameters import HmmParams, HmmSettings, HmmSizes, initial_params
from recjax.hmm.passes import (
    Batches,
    EarlyStop,
    count_items,
    expected_counts,
    log_likelihood_per_event,
)
from recjax.hmm.validation import (
    validate_item_category,
    validate_item_features,
    validate_params,
    validate_stays,
)

History = list[dict[str, float]]


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
        sizes: V, A, G and S.
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
    popularity = count_items(batches, sizes)
    init_key, seed_key = jax.random.split(key)
    params = checked_start(
        init_key,
        sizes,
        settings,
        popularity,
        kernel=kernel,
        item_category=item_category,
        item_features=item_features,
        initial=initial,
    )
    prior = make_prior(params, settings.smoothing, popularity)
    num_events = int(popularity.sum())
    measure = "penalised" if held_out is None else "held_out"
    progress = EarlyStop(params, measure, settings.tolerance)
    for iteration in range(settings.num_iterations):
        counts, value = expected_counts(params, batches, place=place)
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
        if progress.is_over(row, params):
            break
    return progress.best, progress.history


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
        sizes: V, A, G and S.
        settings: reads num_states and smoothing; num_iterations with a kernel, whose part in each
            item is never observed.
        states_of: gives int [B, T] of a batch, e.g. its actions; -1 marks a state not known.
        kernel: of `build_kernel`, counted from these users, or None.
        item_category: int [V]; given, items are emitted by way of their category.
        item_features: float [V, F]; given, items are emitted by what is known of them.

    Raises:
        ValueError: if an id is out of range or there is no event at all.
    """
    popularity = count_items(batches, sizes)
    params = checked_start(
        jax.random.key(0),
        sizes,
        settings,
        popularity,
        kernel=kernel,
        item_category=item_category,
        item_features=item_features,
    )
    prior = make_prior(params, settings.smoothing, popularity)

    def checked_states(events: Events) -> np.ndarray:
        states = np.asarray(states_of(events))
        if states.min(initial=-1) < -1 or states.max(initial=-1) >= settings.num_states:
            raise ValueError(
                f"states lie in {states.min()}..{states.max()}: expected below "
                f"{settings.num_states}, or -1"
            )
        validate_stays(states, np.asarray(events.lengths), settings.max_duration)
        return states

    for _ in range(1 if kernel is None else settings.num_iterations):
        counts, _ = expected_counts(params, batches, states_of=checked_states)
        params = estimate(params, counts, prior)
    return params


def checked_start(
    key: jax.Array,
    sizes: HmmSizes,
    settings: HmmSettings,
    popularity: np.ndarray,
    *,
    kernel: Kernel | None,
    item_category: np.ndarray | None,
    item_features: np.ndarray | None,
    initial: HmmParams | None = None,
) -> HmmParams:
    """Returns `initial`, or a random start, on the device: it must not travel with every batch.

    Args:
        key: PRNG key of the random start.
        sizes: V, A, G and S.
        settings: reads num_states.
        popularity: events per item [V].
        kernel: or None.
        item_category: int [V] or None.
        item_features: float [V, F] or None.
        initial: the start itself, with its own kernel and categories.

    Raises:
        ValueError: if a table or a category is wrong.
    """
    validate_item_category(item_category, sizes.num_items)
    validate_item_features(item_features, sizes.num_items, item_category)
    if initial is None:
        initial = initial_params(
            key,
            sizes,
            settings,
            popularity=popularity,
            item_category=item_category,
            item_features=item_features,
            kernel=kernel,
        )
    validate_params(initial)
    if initial.sizes != sizes:
        raise ValueError(f"initial is of {initial.sizes}: expected {sizes}")
    if kernel is not None and initial.kernel is None:
        raise ValueError("initial has no kernel: expected the one that is given beside it")
    return jax.tree.map(jnp.asarray, initial)
