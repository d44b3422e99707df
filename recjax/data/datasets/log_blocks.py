"""Blocks of behaviour-log rows as example records, and back; missing values included.

The builders in this folder share these columns; how they read their files is theirs.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recjax.data.records import Field, Record, Schema

NULL_TIME = -(2**63)  # a missing time; missing texts are "", missing numbers NaN

EVENT_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("action", pa.string()),
        ("timestamp", pa.int64()),
        ("session_id", pa.string()),
        ("query", pa.string()),
        ("rating", pa.float32()),
        ("price", pa.float32()),
        ("platform", pa.string()),
    ]
)
REQUIRED_COLUMNS = ("user_id", "item_id", "action", "timestamp")


def block_schema(columns: tuple[str, ...]) -> Schema:
    """Returns the record schema of a block with these columns."""
    kinds = {pa.string(): "text", pa.int64(): "int64", pa.float32(): "float32"}
    return {name: Field(kinds[EVENT_SCHEMA.field(name).type], True) for name in columns}


def encode_block(batch: pa.RecordBatch, columns: tuple[str, ...]) -> Record:
    """Returns a block of rows as a record; missing values become their stand-ins."""
    stand_in = {pa.string(): "", pa.int64(): NULL_TIME, pa.float32(): float("nan")}
    block = {}
    for name in columns:
        kind = EVENT_SCHEMA.field(name).type
        values = batch.column(name).cast(kind).fill_null(stand_in[kind])
        block[name] = values.to_pylist() if kind == pa.string() else values.to_numpy()
    return block


def decode_blocks(blocks: list[Record]) -> pa.RecordBatch:
    """Returns the rows of several blocks, missing values as nulls."""
    arrays = {}
    for name in blocks[0]:
        kind = EVENT_SCHEMA.field(name).type
        if kind == pa.string():
            texts = [text or None for block in blocks for text in block[name]]
            arrays[name] = pa.array(texts, kind)
            continue
        values = np.concatenate([block[name] for block in blocks])
        mask = values == NULL_TIME if kind == pa.int64() else np.isnan(values)
        arrays[name] = pa.array(values, kind, mask=mask)
    return pa.RecordBatch.from_pydict(arrays)
