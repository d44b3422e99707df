"""What all HMM strategies share: the generator they ask for, and drawn users as records."""

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.records import Record, make_record
from recjax.expansion.strategy import ExpansionData, draw_uniforms


def require_generator(
    name: str, data: ExpansionData, *, conditional: bool = False
) -> GeneratorState:
    """Returns the fitted HMM of the seed.

    Args:
        name: of the strategy that asks, for messages.
        data: what the strategy was given.
        conditional: whether it draws given events that are known, as in fills.

    Raises:
        ValueError: if there is none, or conditional draws do not know its explicit durations.
    """
    if data.generator is None:
        raise ValueError(f"{name} needs data.generator, the fitted HMM")
    if conditional and data.generator.params.duration is not None:
        raise ValueError(
            f"{name} knows no explicit durations: hmm.max_duration is "
            f"{data.generator.config.max_duration}, must be 1"
        )
    return data.generator


def make_users(
    key: jax.Array,
    generator: GeneratorState,
    events: hmm.Events,
    first_row: int,
    session_gap_seconds: int,
) -> list[Record]:
    """Returns drawn users [B, T] as records; their seconds and starts come from the clock.

    Args:
        key: PRNG key; the times of row b depend on (key, first_row + b) alone.
        generator: knows item ids and the clock.
        events: of item indices.
        first_row: number of the first row.
        session_gap_seconds: a longer gap opens a new session.
    """
    events = jax.tree.map(np.asarray, events)
    uniforms = draw_uniforms(key, first_row, *events.items.shape)
    times = generator.clock.draw_times(events.gaps, events.lengths, uniforms)
    items = generator.item_ids[events.items]
    return [
        make_record(
            items[row, :length],
            events.actions[row, :length],
            times[row, :length],
            session_gap_seconds=session_gap_seconds,
        )
        for row, length in enumerate(events.lengths)
    ]
