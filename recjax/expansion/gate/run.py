"""Draws through the gate until enough are kept: streamed in blocks, same key same result.

Not here: the single filters (`filters`) and the choice for the quotas (`quotas`). Called by
`recjax.expansion.arms`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from recjax.expansion.gate.bands import ScoreBand
from recjax.expansion.gate.filters import Verdicts, judge
from recjax.expansion.gate.quotas import Quotas
from recjax.expansion.gate.reference import RealReference, UserIndex
from recjax.expansion.gate.settings import (
    LITTLE_FOR_QUOTAS,
    MERGED,
    NEAR_DRAW,
    SURPLUS,
    GateConfig,
    GateCounts,
)
from recjax.expansion.records import DrawFn, Record

DRAW_SIZE = 256  # rows per draw; always the same, so that a compiled sampler never retraces
BLOCK_SIZE = 4096  # kept records among which the quotas must hold


def run_gate(
    draw: DrawFn,
    wanted: int,
    config: GateConfig,
    reference: RealReference,
    *,
    drawn: UserIndex | None = None,
    bands: Sequence[ScoreBand] = (),
    draw_size: int = DRAW_SIZE,
    block_size: int = BLOCK_SIZE,
) -> tuple[Iterator[Record], GateCounts]:
    """Returns the kept records and the counts, which grow as the records are consumed.

    Records come in blocks. A block draws until it has its number of records that pass every filter
    and together meet the quotas, or until `max_draw_factor` times its number was drawn; then it
    keeps what there is. At most `max_draw_factor * block_size + draw_size` records are held at a
    time, beside the indices (see `duplicates` for bytes per user).

    Args:
        draw: draw(first, n) -> records of rows first..first + n - 1.
        wanted: records to keep.
        config: settings.
        reference: the real users, from `build_reference`.
        drawn: draws to tell apart from, shared by the strategies of an arm; None: a fresh index.
        bands: what scores must lie in, judged in this order.
        draw_size: rows per call of `draw`.
        block_size: records per block.

    Raises:
        ValueError: if a quota of categories is asked for and the log has none.
    """
    counts, quotas = GateCounts(wanted), Quotas.make(config, reference)
    index = UserIndex.empty(config) if drawn is None else drawn

    def judge_batch(records: Sequence[Record]) -> Verdicts:
        return judge(records, config, reference, index, bands)

    def kept_records() -> Iterator[Record]:
        last = int(np.ceil(wanted * config.max_draw_factor))
        while counts.kept < wanted and counts.drawn < last:
            before, target = counts.drawn, min(block_size, wanted - counts.kept)
            limit = min(last, before + int(np.ceil(target * config.max_draw_factor)))
            block = _collect(draw, target, limit, draw_size, quotas, judge_batch, counts)
            yield from _choose(block, target, counts)
            if counts.drawn == before:  # a generator that has run dry must not be asked for ever
                return

    return kept_records(), counts


@dataclass
class _Block:
    """Candidates of one block, with what each brings to the quotas and the weight it has gathered.

    Only draws that the block still holds can take up a copy: earlier ones have been handed out.
    """

    quotas: Quotas
    records: list[Record] = field(default_factory=list)
    excesses: list[np.ndarray] = field(default_factory=list)
    merged: dict[int, float] = field(default_factory=dict)  # place -> weight of its copies
    places: dict[int, int] = field(default_factory=dict)  # entry of the index -> place

    def add(self, records: Sequence[Record], verdicts: Verdicts) -> None:
        """Adds the records that pass."""
        passed = [records[int(row)] for row in np.nonzero(verdicts.reasons == "")[0]]
        self.records += passed
        self.excesses.append(self.quotas.measure(passed))

    def merge(self, records: Sequence[Record], verdicts: Verdicts) -> None:
        """Adds weights of near copies to their originals, among them the records just added."""
        entries = verdicts.entries[verdicts.reasons == ""].tolist()
        first = len(self.records) - len(entries)
        self.places.update(zip(entries, range(first, len(self.records)), strict=True))
        for row in np.nonzero(verdicts.reasons == NEAR_DRAW)[0]:
            place = self.places.get(int(verdicts.originals[row]))
            if place is not None:
                weight = self.merged.get(place, 0.0) + float(records[int(row)]["weight"])
                self.merged[place] = weight
                self.places[int(verdicts.entries[row])] = place  # a copy of the copy goes there too
                verdicts.reasons[row] = MERGED

    def take(self, place: int) -> Record:
        """Returns a candidate with the weight of its copies; the draw itself is left alone."""
        record = self.records[place]
        if place not in self.merged:
            return record
        return {**record, "weight": np.float32(record["weight"] + self.merged[place])}

    def select(self, target: int) -> tuple[np.ndarray, set[str]]:
        return self.quotas.select(np.concatenate(self.excesses), target)


def _collect(
    draw: DrawFn,
    target: int,
    limit: int,
    draw_size: int,
    quotas: Quotas,
    judge_batch: Callable[[Sequence[Record]], Verdicts],
    counts: GateCounts,
) -> _Block:
    """Returns what passed the filters: enough for the block, or all until `limit` was drawn."""
    block = _Block(quotas)
    while counts.drawn < limit:
        records = draw(counts.drawn, draw_size)
        if not len(records):
            break
        verdicts = judge_batch(records)
        block.add(records, verdicts)
        if quotas.config.merge_similar:
            block.merge(records, verdicts)
        counts.drawn += len(records)
        counts.removed.update(str(reason) for reason in verdicts.reasons if reason)
        if len(block.records) >= target and not block.select(target)[1]:
            break
    return block


def _choose(block: _Block, target: int, counts: GateCounts) -> list[Record]:
    """Returns the records of a block that are kept, and adds them to the counts."""
    if not block.records:
        return []
    chosen, missed = block.select(target)
    swapped = int((chosen >= target).sum())
    unused = len(block.records) - len(chosen)
    for reason, number in ((LITTLE_FOR_QUOTAS, swapped), (SURPLUS, unused - swapped)):
        if number:
            counts.removed[reason] += number
    kept = [block.take(int(place)) for place in chosen]
    counts.kept += len(kept)
    counts.events += sum(len(record["items"]) for record in kept)
    rare = block.quotas.reference.rare_items
    counts.rare_events += sum(int(rare[record["items"]].sum()) for record in kept)
    counts.quotas_missed.update(missed)
    return kept
