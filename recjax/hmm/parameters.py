"""The model as a pytree, its sizes and settings, random starts, and the way to and from arrays.

What the tables mean is said here; how they are used is in `emissions`, `inference`, `learning` and
`sampling`; checks of values are in `validation`.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np

from recjax.hmm.content import ContentItems, popularity_offset, random_weights
from recjax.hmm.emissions import CategoryItems, ItemEmission, PlainItems
from recjax.hmm.events import Array
from recjax.hmm.kernel import Kernel


@dataclasses.dataclass(frozen=True)
class HmmSettings:
    """Settings of learning; the names are those of the config section `expansion.hmm`.

    Attributes:
        num_states: K.
        num_iterations: largest number of Baum-Welch iterations.
        tolerance: stop when the log-likelihood per event (held-out if given) gains less.
        kernel_window: W, previous items the kernel looks at.
        kernel_neighbours: N, neighbours kept per item.
        kernel_backward: weight of pair counts in reverse order.
        kernel_damping: exponent on popularity by which counts are divided.
        smoothing: pseudo-count per cell; of plain item tables smoothing x V per state in all,
            spread by popularity.
        max_duration: D, most events of one stay in a state; 1: no explicit durations, a state
            is left or kept by its transition row.
    """

    num_states: int
    num_iterations: int
    tolerance: float
    kernel_window: int
    kernel_neighbours: int
    kernel_backward: float
    kernel_damping: float
    smoothing: float
    max_duration: int = 1

    def __post_init__(self) -> None:
        for name in (
            "num_states",
            "num_iterations",
            "kernel_window",
            "kernel_neighbours",
            "max_duration",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected at least 1")
        if self.max_duration > 1 and self.num_states == 1:
            raise ValueError(f"max_duration = {self.max_duration} with one state: expected 1")
        for name in ("tolerance", "kernel_backward", "kernel_damping", "smoothing"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} = {value}: expected a finite number >= 0")


@dataclasses.dataclass(frozen=True)
class HmmSizes:
    """Sizes of what is observed: V items, A actions, G gap bins, S segments (1: not modelled)."""

    num_items: int
    num_actions: int = 1
    num_gap_bins: int = 1
    num_segments: int = 1

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} = {value}: expected at least 1")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HmmParams:
    """A factored hidden Markov model of users; all tables float32.

    A user of segment s starts in z ~ start[s]; in each state he makes one event (action, gap bin,
    item, independent given the state), then ends with probability stop[z], else moves on to
    z' ~ transition[z]. With explicit durations he makes d ~ duration[z] events when he enters a
    state, and stops or moves on (to another state) after the last of them.

    Attributes:
        start: [S, K], rows sum to 1; one row for each segment of users (S = 1: no segments).
        transition: [K, K], rows sum to 1; the next state given that another event follows.
        stop: [K], probability that an event in this state is the user's last; with durations, that
            the stay is.
        action: [K, A], rows sum to 1.
        gap: [K, G], rows sum to 1; not emitted by a user's first event.
        mix: [K], probability that the kernel and not the state's own distribution chooses the item,
            where a previous item has a kernel row; 0 without kernel.
        items: own item distribution of every state.
        kernel: distribution of the item given previous items, or None.
        duration: [K, D], rows sum to 1: p(1 event), ..., p(D events) of a stay in the state; the
            diagonal of transition is then 0. None: no explicit durations.
    """

    start: Array
    transition: Array
    stop: Array
    action: Array
    gap: Array
    mix: Array
    items: ItemEmission
    kernel: Kernel | None = None
    duration: Array | None = None

    @property
    def num_states(self) -> int:
        """K."""
        return self.start.shape[1]

    @property
    def sizes(self) -> HmmSizes:
        """Sizes of the observed alphabets."""
        num_segments = self.start.shape[0]
        return HmmSizes(self.items.num_items, self.action.shape[1], self.gap.shape[1], num_segments)


def initial_params(
    key: jax.Array,
    sizes: HmmSizes,
    settings: HmmSettings,
    *,
    popularity: np.ndarray | None = None,
    item_category: np.ndarray | None = None,
    item_features: np.ndarray | None = None,
    kernel: Kernel | None = None,
) -> HmmParams:
    """Returns a random start for Baum-Welch.

    States begin sticky (half of the transition mass stays), so that early iterations group whole
    users, and with item tables that are random tilts of popularity.

    Args:
        key: PRNG key.
        sizes: V, A, G and S.
        settings: reads num_states and max_duration.
        popularity: events per item [V]; None: all equal.
        item_category: int [V]; given, items are emitted by way of their category.
        item_features: float [V, F]; given, items are emitted by what is known of them (not
            together with item_category).
        kernel: kernel on previous items, or None.
    """
    num_states, rng = settings.num_states, host_rng(key)
    if popularity is None:
        popularity = np.zeros(sizes.num_items)
    share = (popularity + 1.0) / (popularity.sum() + popularity.size)
    noise = tilted_rows(rng, np.ones((num_states, num_states)), 0.5)
    params = HmmParams(
        start=tilted_rows(rng, np.ones((sizes.num_segments, num_states)), 0.5),
        transition=(0.5 * np.eye(num_states) + 0.5 * noise).astype(np.float32),
        stop=np.full(num_states, 0.1, np.float32),
        action=tilted_rows(rng, np.ones((num_states, sizes.num_actions)), 0.5),
        gap=tilted_rows(rng, np.ones((num_states, sizes.num_gap_bins)), 0.5),
        mix=np.full(num_states, 0.0 if kernel is None else 0.5, np.float32),
        items=_initial_items(rng, share, num_states, item_category)
        if item_features is None
        else _initial_content(rng, popularity, num_states, item_features),
        kernel=kernel,
    )
    if settings.max_duration == 1:
        return params
    duration = tilted_rows(rng, np.ones((num_states, settings.max_duration)), 0.5)
    return dataclasses.replace(params, transition=without_stays(noise), duration=duration)


def without_stays(transition: np.ndarray) -> np.ndarray:
    """Returns transitions [K, K] with a diagonal of 0 and rows that sum to 1, for durations."""
    num_states = len(transition)
    odds = np.where(np.eye(num_states, dtype=bool), 0.0, transition + 1e-6)
    return (odds / odds.sum(-1, keepdims=True)).astype(np.float32)


def _initial_items(
    rng: np.random.Generator, share: np.ndarray, num_states: int, item_category: np.ndarray | None
) -> ItemEmission:
    if item_category is None:
        rows = np.broadcast_to(share, (num_states, share.size))
        return PlainItems(np.ascontiguousarray(tilted_rows(rng, rows, 0.2).T))
    category_of = np.asarray(item_category, np.int32)
    totals = np.bincount(category_of, share)
    rows = np.broadcast_to(totals, (num_states, totals.size))
    within = (share / totals[category_of]).astype(np.float32)
    return CategoryItems(tilted_rows(rng, rows, 0.2), within, category_of)


def _initial_content(
    rng: np.random.Generator, popularity: np.ndarray, num_states: int, item_features: np.ndarray
) -> ContentItems:
    features = np.asarray(item_features, np.float32)
    weights = random_weights(rng, features, num_states)
    items = ContentItems.of(features, weights, popularity_offset(popularity))
    return jax.tree.map(np.asarray, items)


def host_rng(key: jax.Array) -> np.random.Generator:
    """Returns a numpy generator seeded by a key: starts are made on the host, with no compile."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


def tilted_rows(rng: np.random.Generator, odds: np.ndarray, floor: float) -> np.ndarray:
    """Returns odds [R, N] times random factors of at least `floor`, rows over their sum."""
    values = odds * (floor + rng.exponential(size=odds.shape))
    return (values / values.sum(-1, keepdims=True)).astype(np.float32)


def to_arrays(params: HmmParams) -> dict[str, np.ndarray]:
    """Returns the model as numpy arrays {"start": [S, K], ...}, ready for `np.savez`."""
    arrays = {
        name: np.asarray(getattr(params, name))
        for name in ("start", "transition", "stop", "action", "gap", "mix")
    }
    if params.duration is not None:
        arrays["duration"] = np.asarray(params.duration)
    for part in ("items", "kernel"):
        value = getattr(params, part)
        if value is not None:
            for field in dataclasses.fields(value):
                arrays[f"{part}.{field.name}"] = np.asarray(getattr(value, field.name))
    return arrays


def from_arrays(arrays: dict[str, np.ndarray]) -> HmmParams:
    """Returns the model that `to_arrays` took apart into {"start": [S, K], ...}.

    Raises:
        ValueError: if a table is missing.
    """
    parts: dict[str, dict[str, np.ndarray]] = {"": {}, "items": {}, "kernel": {}}
    for name in arrays:
        part, _, field = name.rpartition(".")
        parts.setdefault(part, {})[field] = np.asarray(arrays[name])
    plain = ContentItems if "weights" in parts["items"] else PlainItems
    emission = plain if "table" in parts["items"] else CategoryItems
    try:
        items = emission(**parts["items"])
        kernel = Kernel(**parts["kernel"]) if parts["kernel"] else None
        return HmmParams(**parts[""], items=items, kernel=kernel)
    except TypeError as error:
        raise ValueError(f"not the tables of an HMM: {sorted(arrays)} ({error})") from error
