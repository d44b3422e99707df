"""Host side: from a behaviour log of any kind to batches of numpy arrays. No device code.

A log's way: `sources` and `scans` read files; `readers`, `tables`, `events`, `catalogue`,
`users`, `graph` and `impressions` type them (bad rows to `quarantine`); `codes` numbers the ids;
`cleaning`, `sessions` and `splits` work on them; `leakage` and `profile` look at the result.
`prepare_log` tells that story, `engine` runs its Ibis expressions, `check` looks at a stranger's
log. Then `vocabulary`, `text`, `items` and `examples` write what models read; `loading` and
`transforms` batch it.

A labelled table's way is shorter: `row_tables` reads and splits it, `features` turns columns into
rows of an embedding table, `prepare_rows` writes them, `row_batches` batches them.

Nothing is re-exported: a reader of examples must not pay for the table engine.
"""
