"""What the gate knows of the real users: counts, allowed ids, and indices of whom to tell apart.

Built once per work directory in one streamed pass over the training part and shared by all seeds,
arms and strategies. Not here: the indices themselves (`duplicates`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from recjax.expansion.gate import minhash
from recjax.expansion.gate.coverage import find_crossing, find_rare_items, share_by_category
from recjax.expansion.gate.duplicates import ExactIndex, NearIndex
from recjax.expansion.gate.hashing import hash_bags, hash_sequences
from recjax.expansion.gate.settings import GateConfig
from recjax.expansion.gate.tokens import ITEMS, make_tokens
from recjax.expansion.records import (
    NUM_SPECIALS,
    Record,
    RecordSource,
    batched,
    lengths_of,
    pad_field,
)

_BATCH = 1024  # users hashed at once


@dataclass(frozen=True)
class UserIndex:
    """Users seen so far.

    Attributes:
        exact: their exact hashes.
        near: their signatures; None where near copies are not looked for.
        by: what of an event they are known by, see `make_tokens`.
    """

    exact: ExactIndex
    near: NearIndex | None
    by: tuple[str, ...]

    @classmethod
    def empty(cls, config: GateConfig, by: tuple[str, ...] = ITEMS) -> "UserIndex":
        """Returns an index without users."""
        threshold = config.near_duplicate_jaccard
        near = NearIndex(config.num_hashes, threshold) if threshold else None
        return cls(ExactIndex(), near, by)

    def add(self, records: Sequence[Record], config: GateConfig) -> None:
        """Remembers users, whatever they resemble."""
        tokens, lengths = make_tokens(records, self.by), lengths_of(records)
        self.exact.add(hash_sequences(tokens, lengths))
        if self.near is not None:
            owners = np.array([record["user"] for record in records], np.int32)
            self.near.add(compute_signatures(tokens, lengths, config), owners)


@dataclass(frozen=True)
class RealReference:
    """The training part as the gate sees it.

    Attributes:
        users: index of the real users.
        twin_share: share of the real users whose whole sequence another one has too.
        bags: their items whatever the order, 8 bytes a user.
        item_counts: int64 [V], training events of each item id.
        action_counts: int64 [A].
        allowed_items: bool [V], ids that a draw may hold: by default those with training events.
        rare_items: bool [V].
        category_of_item: int [V], 0 = none.
        category_cells: int64 [V], see `share_by_category`.
        category_shares: float64 [C], share of the training events in each cell.
        crossing_share: share of the real users that touch two categories or more.
    """

    users: UserIndex
    twin_share: float
    bags: ExactIndex
    item_counts: np.ndarray
    action_counts: np.ndarray
    allowed_items: np.ndarray
    rare_items: np.ndarray
    category_of_item: np.ndarray
    category_cells: np.ndarray
    category_shares: np.ndarray
    crossing_share: float


def build_reference(
    source: RecordSource | Iterable[Record],
    config: GateConfig,
    *,
    vocab_size: int,
    num_actions: int,
    category_of_item: np.ndarray,
    also_allowed: Iterable[int] = (),
) -> RealReference:
    """Returns the reference, after one pass over the real users' training records.

    Args:
        source: the records of the training part and of nothing else.
        config: settings of the gate.
        vocab_size: V, item ids with the specials.
        num_actions: A.
        category_of_item: int [V], 0 = none; all 0 for a log without categories.
        also_allowed: ids without training events that draws may hold (cold items of a catalogue).
    """
    users, bags = UserIndex.empty(config), ExactIndex()
    item_counts, action_counts = np.zeros(vocab_size, np.int64), np.zeros(num_actions, np.int64)
    num_users = num_crossing = 0
    for batch in batched(source, _BATCH):
        item_counts += np.bincount(_join(batch, "items"), minlength=vocab_size)
        action_counts += np.bincount(_join(batch, "actions"), minlength=num_actions)
        items, lengths = pad_field(batch, "items"), lengths_of(batch)
        num_users += len(batch)
        num_crossing += int(find_crossing(items, category_of_item).sum())
        users.add(batch, config)
        bags.add(hash_bags(items, lengths))
    allowed = item_counts > 0
    allowed[list(also_allowed)] = True
    allowed[:NUM_SPECIALS] = False
    cells, shares = share_by_category(category_of_item, item_counts)
    return RealReference(
        users=users,
        twin_share=users.exact.compute_twin_share(),
        bags=bags,
        item_counts=item_counts,
        action_counts=action_counts,
        allowed_items=allowed,
        rare_items=find_rare_items(item_counts, allowed, config.rare_item_share),
        category_of_item=category_of_item,
        category_cells=cells,
        category_shares=shares,
        crossing_share=num_crossing / max(num_users, 1),
    )


def index_users(
    source: RecordSource | Iterable[Record], config: GateConfig, by: tuple[str, ...]
) -> UserIndex:
    """Returns the index of real users by other fields than `build_reference`'s, after one pass.

    Args:
        source: the records of the training part.
        config: settings of the gate.
        by: what of an event they are known by, see `make_tokens`.
    """
    index = UserIndex.empty(config, by)
    for batch in batched(source, _BATCH):
        index.add(batch, config)
    return index


def compute_signatures(items: np.ndarray, lengths: np.ndarray, config: GateConfig) -> np.ndarray:
    """Returns uint32 [B, H], MinHash values of tokens [B, T] with the gate's settings."""
    return minhash.compute_minhashes(
        items, lengths, num_hashes=config.num_hashes, shingle_len=config.shingle_len
    )


def _join(batch: list[Record], name: str) -> np.ndarray:
    return np.concatenate([np.asarray(record[name], np.int64) for record in batch])
