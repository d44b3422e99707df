"""In which order one member reads its training records, epoch after epoch.

An order is a pure function of (seed, position, number of the batch). A position is a list of ints,
how many records of each kind the batches before have taken, so that it can be saved as JSON.
Called by `loading`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from grain import experimental as grain_experimental

Position = list[int]
_IN_MEMORY = 1024  # records; shuffling so few by index takes grain milliseconds for each of them


class ShuffledOrder:
    """The infinite order of one member: every epoch a new permutation of the records.

    Args:
        size: number of records N.
        seed: the member's seed.

    Raises:
        ValueError: if there are no records.

    Example:
        >>> order = ShuffledOrder(4, seed=1)
        >>> sorted(order.indices(0, 4)), sorted(order.indices(4, 4))
        ([0, 1, 2, 3], [0, 1, 2, 3])
    """

    start: tuple[int, ...] = (0,)

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("cannot train on no records at all")
        self._size, self._seed = size, seed
        self._epochs: dict[int, Callable[[int], int]] = {}

    def indices(self, start: int, count: int) -> list[int]:
        """Returns the record numbers at positions start .. start + count - 1."""
        return [self._index(position) for position in range(start, start + count)]

    def take(self, position: Position, batch: int, places: Sequence[int]) -> list[int]:
        """Returns the record numbers at ascending places of the batch that starts at a position."""
        found = self.indices(position[0] + places[0], places[-1] + 1 - places[0])
        return [found[place - places[0]] for place in places]

    def after(self, position: Position, batch: int, count: int) -> Position:
        """Returns the position after a batch that took `count` records."""
        return [position[0] + count]

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self._size)
        if epoch not in self._epochs:
            self._epochs = {epoch: self._shuffle(epoch)}
        return self._epochs[epoch](place)

    def _shuffle(self, epoch: int) -> Callable[[int], int]:
        """Returns the permutation of an epoch, place -> record number."""
        seed = int(np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0])
        if self._size <= _IN_MEMORY:
            return np.random.default_rng(seed).permutation(self._size).tolist().__getitem__
        return partial(
            grain_experimental.index_shuffle, max_index=self._size - 1, seed=seed, rounds=4
        )


class TableOrder(ShuffledOrder):
    """As `ShuffledOrder`, for the rows of a table: a whole epoch's permutation in memory.

    It costs 8 bytes a row; taking a thousand rows costs microseconds.

    Example:
        >>> order = TableOrder(4, seed=1)
        >>> sorted(order.rows([4], np.arange(4)).tolist())
        [0, 1, 2, 3]
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(size, seed)
        self._current: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def rows(self, position: Position, places: np.ndarray) -> np.ndarray:
        """Returns the row numbers int64 [n] at ascending places of a batch."""
        epochs, within = np.divmod(position[0] + places, self._size)
        found = [self._permutation(int(e))[within[epochs == e]] for e in np.unique(epochs)]
        return np.concatenate(found)

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._current[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._current = epoch, generator.permutation(self._size)
        return self._current[1]


class MixedOrder:
    """Real and synthetic records, each in an order of its own, mixed by a share for each batch.

    The places of a batch that go to synthetic records are spread evenly and begin at random, so
    that of n places share x n are synthetic, rounded up or down, and share x n in the mean.

    Args:
        sizes: numbers of real and of synthetic records; synthetic ones stand behind the real ones.
        seed: the member's seed.
        share: number of the batch, from 0 -> share of synthetic records in it, 0 to 1.

    Raises:
        ValueError: if there are no records of either kind.

    Example:
        >>> order = MixedOrder((4, 4), seed=0, share=lambda batch: 0.5)
        >>> sum(number >= 4 for number in order.take([0, 0], 0, range(4)))
        2
    """

    start: tuple[int, ...] = (0, 0)

    def __init__(self, sizes: tuple[int, int], seed: int, share: Callable[[int], float]) -> None:
        self._first_synthetic, self._seed, self._share = sizes[0], seed, share
        seeds = np.random.SeedSequence(seed).generate_state(2)  # draws must not follow their models
        self._real, self._synthetic = map(ShuffledOrder, sizes, seeds.tolist())

    def take(self, position: Position, batch: int, places: Sequence[int]) -> list[int]:
        """Returns the record numbers at ascending places of the batch that starts at a position."""
        before, behind = (self._num_synthetic(batch, np.add(places, n)) for n in (0, 1))
        return [
            self._first_synthetic + self._synthetic.indices(position[1] + drawn, 1)[0]
            if more > drawn
            else self._real.indices(position[0] + place - drawn, 1)[0]
            for place, drawn, more in zip(places, before.tolist(), behind.tolist(), strict=True)
        ]

    def after(self, position: Position, batch: int, count: int) -> Position:
        """Returns the position after a batch that took `count` records."""
        synthetic = int(self._num_synthetic(batch, np.array(count)))
        return [position[0] + count - synthetic, position[1] + synthetic]

    def _num_synthetic(self, batch: int, counts: np.ndarray) -> np.ndarray:
        """How many of the first `counts` places of a batch are synthetic."""
        begin = np.random.default_rng([self._seed, batch]).random()
        return np.floor(self._share(batch) * counts + begin).astype(np.int64)
