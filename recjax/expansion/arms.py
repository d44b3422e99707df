"""One arm of an experiment: strategies mixed by share, each through the gate, marked and counted.

Not here: writing the records and fitting the generator; the expand stage does both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from recjax.expansion.discriminator import MAX_USERS, fit_discriminator
from recjax.expansion.gate import (
    GateConfig,
    GateCounts,
    RealReference,
    ScoreBand,
    UserIndex,
    fit_band,
    index_users,
    run_gate,
)
from recjax.expansion.gate.run import DRAW_SIZE
from recjax.expansion.gate.settings import TOLD_APART
from recjax.expansion.generate import split_users
from recjax.expansion.records import DrawFn, Record, pick_evenly
from recjax.expansion.registry import get_source_index, get_strategy
from recjax.expansion.strategy import ExpansionData


def split_counts(mix: Mapping[str, float], total: int) -> dict[str, int]:
    """Returns how many records each strategy is to give; largest remainders get the rest.

    Args:
        mix: strategy -> share, any scale; zero shares are left out.
        total: records in all.

    Raises:
        ValueError: if a strategy is unknown, a share negative or not finite, or all are zero.

    Example:
        >>> split_counts({"hmm_users": 0.5, "hmm_continue": 0.5}, 5)
        {'hmm_users': 3, 'hmm_continue': 2}
    """
    for name, share in mix.items():
        get_strategy(name)
        if not (np.isfinite(share) and share >= 0):
            raise ValueError(f"the share of strategy {name!r} is {share}; must be 0 or more")
    names = [name for name, share in mix.items() if share > 0]
    if not names:
        raise ValueError(f"an arm needs a strategy with a share above 0; got {dict(mix)}")
    shares = np.array([mix[name] for name in names], np.float64)
    exact = shares / shares.sum() * total
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return dict(zip(names, counts.tolist(), strict=True))


def find_held_out(mix: Mapping[str, float], num_users: int) -> np.ndarray:
    """Returns int64 [N], places of the training users that an arm was not fitted on.

    They are known where all strategies draw from the generator; other strategies see every user.
    A continuation starts from any short user, fitted or not, and is marked with that user.

    Args:
        mix: strategy -> share, as in `config.expansion.arms`.
        num_users: training users.
    """
    names = [name for name, share in mix.items() if share > 0]
    if not all("generator" in get_strategy(name).needs for name in names):
        return np.zeros(0, np.int64)
    return split_users(num_users)[0]


def expand_arm(
    mix: Mapping[str, float],
    ratio: float,
    seed: int,
    data: ExpansionData,
    reference: RealReference,
    gate: GateConfig,
    *,
    draw_size: int = DRAW_SIZE,
) -> tuple[Iterator[Record], dict[str, GateCounts]]:
    """Returns the kept records of one arm and seed, and the counts per strategy.

    The same arguments give the same records. The counts are complete once the records have been
    consumed. Fitting of the strategies happens here, drawing while the records are consumed.

    Args:
        mix: strategy -> share, as in `config.expansion.arms`.
        ratio: synthetic users per real one, 0 or more.
        seed: seed of the arm; drives all draws.
        data: real users and the fitted generator.
        reference: the real users as the gate knows them.
        gate: settings of the gate.
        draw_size: rows per draw.

    Raises:
        ValueError: if a strategy is unknown or lacks what it needs, or a share is wrong.
    """
    wanted = split_counts(mix, int(round(ratio * len(data.source))))
    drawn, likelihood = dict[tuple[str, ...], UserIndex](), _make_band(data, gate)
    streams, counts = [], {}
    for name, number in wanted.items():
        draw = _make_draw(name, data, seed)
        by = get_strategy(name).judged_by
        if by:
            told = _make_discriminator(draw, number, data, gate, reference, draw_size)
            kwargs: dict[str, Any] = {
                "config": gate,
                "reference": _known_by(by, reference, data, gate),
                "drawn": drawn.setdefault(by, UserIndex.empty(gate, by)),
                "bands": [*likelihood, *told],
            }
        else:
            kwargs = {"config": gate.validity_only(), "reference": reference}
        records, counts[name] = run_gate(draw, number, draw_size=draw_size, **kwargs)
        streams.append(records)
    return (record for records in streams for record in records), counts


def _make_draw(name: str, data: ExpansionData, seed: int) -> DrawFn:
    strategy, source = get_strategy(name), get_source_index(name)
    state = strategy.fit(data, seed)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), source)

    def draw(first: int, n: int) -> Sequence[Record]:
        records = strategy.draw(key, state, n, first)
        mark = {"source": source, "weight": np.float32(1.0)}
        return [{**record, **mark} for record in records]

    return draw


def _known_by(
    by: tuple[str, ...], reference: RealReference, data: ExpansionData, gate: GateConfig
) -> RealReference:
    """Returns the reference with an index of the real users by the fields that are asked for."""
    if by == reference.users.by:
        return reference
    return replace(reference, users=index_users(data.source, gate, by))


def _make_band(data: ExpansionData, gate: GateConfig) -> list[ScoreBand]:
    if data.generator is None:
        return []
    generator = data.generator
    return [fit_band(generator.held_out_scores, gate.likelihood_band, generator.score)]


def _make_discriminator(
    draw: DrawFn,
    wanted: int,
    data: ExpansionData,
    gate: GateConfig,
    reference: RealReference,
    draw_size: int,
) -> list[ScoreBand]:
    """Returns the limit on how synthetic a strategy's draws may look, none where it is off.

    The classifier learns from rows that the gate never gets to, so it has seen no draw that it
    judges, and from every second of a sample of real users; the others of them set the limit.
    """
    users = pick_evenly(data.source, 2 * MAX_USERS)
    if not gate.discriminator_quantile or not wanted or len(users) < 2:
        return []
    first = int(np.ceil(wanted * gate.max_draw_factor)) + draw_size
    starts = range(first, first + min(wanted, MAX_USERS), draw_size)
    pilot = [record for start in starts for record in draw(start, draw_size)]
    if not pilot:
        return []
    model = fit_discriminator(users[::2], pilot, reference.category_of_item)
    limit = float(np.quantile(model.score(users[1::2]), gate.discriminator_quantile))
    return [ScoreBand(model.score, limit, np.inf, too_low=TOLD_APART)]
