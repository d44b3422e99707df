"""The fitted generator as a recommender: its score of every item as a history's next one.

Not here: fitting it (`generator`), and fusing its scores with a model's (the evaluate stage).
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.records import Record

LEAST = -25.0  # log-probability that items get at least; those the generator never saw get it


def next_item_log_scores(
    state: GeneratorState,
    records: Sequence[Record],
    num_rows: int,
    vocab_size: int,
    *,
    leave_out: bool = True,
) -> np.ndarray:
    """Returns log p(next item | history), float32 [B, V], at least `LEAST`.

    Events of unknown items are passed over.

    Args:
        state: the fitted generator.
        records: B <= num_rows histories; their last `config.max_len` known events are read.
        num_rows: rows computed at once, so that few shapes are compiled.
        vocab_size: V, item ids with the specials.
        leave_out: whether the histories are of users that the generator was fitted on: the counts
            of each event are then left out of the kernel that explains it.
    """
    known = [_known_events(state, record) for record in records]
    events = state.make_events(known, num_rows, state.config.max_len)
    scores = _next_item_scores(state.params, events, leave_out=leave_out)
    scores = np.asarray(scores)[: len(records)]
    found = np.full((len(records), vocab_size), LEAST, np.float32)
    found[:, state.item_ids] = np.maximum(scores, LEAST)
    return found


def _known_events(state: GeneratorState, record: Record) -> Record:
    items = record["items"]
    index = np.append(state.item_index, -1)  # ids beyond the last one of training
    kept = index[np.minimum(items, len(index) - 1)] >= 0
    return {name: record[name][kept] for name in ("items", "actions", "times")}


@functools.partial(jax.jit, static_argnames="leave_out")
def _next_item_scores(params: hmm.HmmParams, events: hmm.Events, *, leave_out: bool) -> jax.Array:
    # jitted here although it is jitted there: under a trace the tables are not checked every time
    return hmm.next_item_scores(params, events, leave_out=leave_out)
