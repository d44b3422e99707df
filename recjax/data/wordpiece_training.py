"""Deterministic WordPiece training: which pieces make up the vocabulary of titles.

The trainer of the `tokenizers` package breaks ties by hash order, so two runs on the same titles
differ; ours breaks them by the text of the pair. Splitting into words and encoding with the trained
pieces stay with that package (`text.py`).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping

CONTINUATION = "##"  # marks a piece that does not begin a word
MAX_WORDS = 200_000  # most frequent words looked at; bounds time and memory of huge catalogues
MIN_PAIR_COUNT = 2  # rarer pairs are not worth a piece

Pair = tuple[str, str]


def train_pieces(word_counts: Mapping[str, int], num_pieces: int) -> list[str]:
    """Returns at most num_pieces pieces: single characters first, then merged pairs in order.

    Characters that no longer fit are left out, least frequent first; a word that holds one of them
    becomes [UNK] as a whole when it is encoded.

    Args:
        word_counts: word -> occurrences; words are non-empty.
        num_pieces: room in the vocabulary.

    Reference:
        Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword
        Units", algorithm 1, with the continuation mark of WordPiece.

    Example:
        >>> train_pieces({"shoe": 5, "shop": 4}, 10)
        ['##h', '##o', 's', '##e', '##p', '##ho', 'sho', 'shoe', 'shop']
    """
    ranked = sorted(word_counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_WORDS]
    words = [([w[0], *(CONTINUATION + c for c in w[1:])], count) for w, count in ranked]
    characters: Counter[str] = Counter()
    for symbols, count in words:
        for symbol in symbols:
            characters[symbol] += count
    # Nothing but the text breaks ties, here and in the heap below.
    pieces = sorted(characters, key=lambda symbol: (-characters[symbol], symbol))[:num_pieces]
    alphabet = set(pieces)
    kept = [(symbols, count) for symbols, count in words if alphabet.issuperset(symbols)]
    merges = _Merges(kept)
    known = set(pieces)
    while len(pieces) < num_pieces and (pair := merges.pop()) is not None:
        piece = merges.apply(pair)
        if piece not in known:
            known.add(piece)
            pieces.append(piece)
    return pieces


class _Merges:
    """Counts of neighbouring pieces over all words, kept up to date while pairs are merged."""

    def __init__(self, words: list[tuple[list[str], int]]) -> None:
        self._words = words
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for number, (symbols, count) in enumerate(words):
            for pair in zip(symbols, symbols[1:], strict=False):
                self._counts[pair] += count
                self._places[pair].add(number)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def pop(self) -> Pair | None:
        """Returns the most frequent pair, the first in text order among equals; None at the end."""
        while self._heap:
            negative, pair = heapq.heappop(self._heap)
            count = self._counts[pair]
            if count == -negative and count >= MIN_PAIR_COUNT:
                return pair
        return None

    def apply(self, pair: Pair) -> str:
        """Merges a pair in every word that holds it; returns the new piece."""
        piece = pair[0] + pair[1].removeprefix(CONTINUATION)
        changed: set[Pair] = set()
        for number in self._places.pop(pair):
            symbols, count = self._words[number]
            merged = _merge(symbols, pair, piece)
            changed.update(self._update(number, symbols, merged, count))
            self._words[number] = (merged, count)
        del self._counts[pair]
        for other in changed:
            if other != pair and self._counts[other] > 0:
                heapq.heappush(self._heap, (-self._counts[other], other))
        return piece

    def _update(self, number: int, old: list[str], new: list[str], count: int) -> set[Pair]:
        before = Counter(zip(old, old[1:], strict=False))
        after = Counter(zip(new, new[1:], strict=False))
        changed = {p for p in before.keys() | after.keys() if before[p] != after[p]}
        for pair in changed:
            self._counts[pair] += count * (after[pair] - before[pair])
            if after[pair]:
                self._places[pair].add(number)
            elif pair in self._places:
                self._places[pair].discard(number)
        return changed


def _merge(symbols: list[str], pair: Pair, piece: str) -> list[str]:
    merged, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            merged.append(piece)
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged
