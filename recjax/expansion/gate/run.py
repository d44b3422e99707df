"""Draws through the gate until enough are kept: streamed in blocks, same key same result.

Not here: the single filters (`filters`) and the choice for the quota (`coverage`). Called by
`recjax.expansion.arms`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from recjax.expansion.gate.coverage import select_for_quota
from recjax.expansion.gate.filters import judge
from recjax.expansion.gate.likelihood import LikelihoodBand
from recjax.expansion.gate.reference import RealReference, UserIndex
from recjax.expansion.gate.settings import FEW_RARE, SURPLUS, GateConfig, GateCounts
from recjax.expansion.records import DrawFn, Record

DRAW_SIZE = 256  # rows per draw; always the same, so that a compiled sampler never retraces
BLOCK_SIZE = 4096  # kept records among which the quota of rare items must hold


def run_gate(
    draw: DrawFn,
    wanted: int,
    config: GateConfig,
    reference: RealReference,
    *,
    drawn: UserIndex | None = None,
    band: LikelihoodBand | None = None,
    draw_size: int = DRAW_SIZE,
    block_size: int = BLOCK_SIZE,
) -> tuple[Iterator[Record], GateCounts]:
    """Returns the kept records and the counts, which grow as the records are consumed.

    Records come in blocks. A block draws until it has its number of records that pass every filter
    and hold enough rare items, or until `max_draw_factor` times its number was drawn; then it keeps
    what there is. At most `max_draw_factor * block_size + draw_size` records are held at a time,
    beside the indices (see `duplicates` for bytes per user).

    Args:
        draw: draw(first, n) -> records of rows first..first + n - 1.
        wanted: records to keep.
        config: settings.
        reference: the real users, from `build_reference`.
        drawn: draws to tell apart from, shared by the strategies of an arm; None: a fresh index.
        band: the likelihood band; None: no such filter.
        draw_size: rows per call of `draw`.
        block_size: records per block.
    """
    counts = GateCounts(wanted)
    index = UserIndex.empty(config) if drawn is None else drawn

    def judge_batch(records: Sequence[Record]) -> np.ndarray:
        return judge(records, config, reference, index, band)

    def kept_records() -> Iterator[Record]:
        last = int(np.ceil(wanted * config.max_draw_factor))
        while counts.kept < wanted and counts.drawn < last:
            before, target = counts.drawn, min(block_size, wanted - counts.kept)
            limit = min(last, before + int(np.ceil(target * config.max_draw_factor)))
            block = _collect(draw, target, limit, draw_size, config, reference, judge_batch, counts)
            yield from _choose(block, target, config, counts)
            if counts.drawn == before:  # a generator that has run dry must not be asked for ever
                return

    return kept_records(), counts


@dataclass
class _Block:
    """Candidates of one block, with their events and rare events."""

    records: list[Record] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    rare: list[int] = field(default_factory=list)

    def select(self, target: int, quota: float) -> tuple[np.ndarray, bool]:
        return select_for_quota(np.array(self.lengths), np.array(self.rare), target, quota)


def _collect(
    draw: DrawFn,
    target: int,
    limit: int,
    draw_size: int,
    config: GateConfig,
    reference: RealReference,
    judge_batch: Callable[[Sequence[Record]], np.ndarray],
    counts: GateCounts,
) -> _Block:
    """Returns what passed the filters: enough for the block, or all until `limit` was drawn."""
    block = _Block()
    while counts.drawn < limit:
        records = draw(counts.drawn, draw_size)
        if not len(records):
            break
        reasons = judge_batch(records)
        counts.drawn += len(records)
        counts.removed.update(str(reason) for reason in reasons if reason)
        for record, reason in zip(records, reasons, strict=True):
            if not reason:
                block.records.append(record)
                block.lengths.append(len(record["items"]))
                block.rare.append(int(reference.rare_items[record["items"]].sum()))
        if len(block.records) >= target and block.select(target, config.rare_item_quota)[1]:
            break
    return block


def _choose(block: _Block, target: int, config: GateConfig, counts: GateCounts) -> list[Record]:
    """Returns the records of a block that are kept, and adds them to the counts."""
    if not block.records:
        return []
    chosen, met = block.select(target, config.rare_item_quota)
    swapped = int((chosen >= target).sum())
    unused = len(block.records) - len(chosen)
    for reason, number in ((FEW_RARE, swapped), (SURPLUS, unused - swapped)):
        if number:
            counts.removed[reason] += number
    counts.kept += len(chosen)
    counts.events += sum(block.lengths[i] for i in chosen)
    counts.rare_events += sum(block.rare[i] for i in chosen)
    counts.quota_missed += int(not met)
    return [block.records[i] for i in chosen]
