"""Strategy `insert`: similar items put into a real user's history, between events that stay.

Reference:
    Liu et al. (2021), "Contrastive self-supervised sequential recommendation with robust
    augmentation" (CoSeRec), item insertion.
"""

from functools import partial

import numpy as np

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import (
    Editor,
    UserEdits,
    choose_places,
    count_share,
    edit_recent,
    take_recent,
)
from recjax.expansion.records import Record, make_record
from recjax.expansion.similarity import SimilarItems, get_similar
from recjax.expansion.strategy import ExpansionData


class Insert(Editor):
    """Draws users with new events, each behind one whose item it resembles and whose action it has.

    Its time lies between its neighbours. Of long users fewer events are kept, so that there is
    room.
    """

    name = "insert"
    needs: tuple[str, ...] = ("edits", "similar")

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users with an item that has similar ones and an event after it."""
        similar, share = get_similar(data, self.name), get_settings(data, self.name).insert_share
        most = min(data.max_len - 1, int(data.max_len / (1 + share)))  # events that are kept
        change = partial(
            _insert, share=share, similar=similar, session_gap_seconds=data.session_gap_seconds
        )
        return edit_recent(
            data,
            lambda record: len(_find_places(take_recent(record, most), similar)) > 0,
            lambda record, uniforms: change(take_recent(record, most), uniforms),
            num_uniforms=3 * data.max_len,
        )


def _find_places(record: Record, similar: SimilarItems) -> np.ndarray:
    """Returns int64 [N], places of events that another follows, and whose item has similar ones."""
    return np.flatnonzero(similar.has_any(record["items"][:-1]))


def _insert(
    record: Record,
    uniforms: np.ndarray,
    *,
    share: float,
    similar: SimilarItems,
    session_gap_seconds: int,
) -> Record:
    items, actions, times = (record[name] for name in ("items", "actions", "times"))
    order, choice, moment = uniforms.reshape(3, -1)
    open_places = _find_places(record, similar)
    number = count_share(share, len(items), 1, len(open_places))
    places = open_places[choose_places(order[open_places], number)]
    new_items = similar.draw(items[places], choice[places])
    gaps = times[places + 1] - times[places]
    new_times = times[places] + (moment[places] * gaps).astype(np.int64)
    return make_record(
        np.insert(items, places + 1, new_items),
        np.insert(actions, places + 1, actions[places]),
        np.insert(times, places + 1, new_times),
        session_gap_seconds=session_gap_seconds,
        user=record["user"],
    )
