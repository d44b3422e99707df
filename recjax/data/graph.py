"""The knowledge graph: head, relation, tail as text, one row per fact."""

import ibis.expr.types as ir
import pyarrow as pa

from recjax.data import readers, sources, tables
from recjax.data.engine import Engine
from recjax.data.quarantine import Quarantine
from recjax.data.readers import Fault
from recjax.data.settings import GraphConfig

PATH_KEY, COLUMNS_KEY = "config.data.graph_path", "config.data.graph_columns"
ENDS = ("head", "relation", "tail")


def read_graph(engine: Engine, config: GraphConfig, quarantine: Quarantine) -> pa.Table | None:
    """Returns distinct facts (head, relation, tail: string), sorted; None if there is no graph.

    Raises:
        UserError: if a file or column is missing, or too many rows are bad.
    """
    if not config.graph_path:
        return None
    columns = dict(config.graph_columns)
    files = sources.describe_all(config.graph_path, PATH_KEY, columns.values())
    mapped = [(file, sources.require_all(file, columns, ENDS, COLUMNS_KEY)) for file in files]
    parts = tables.read_parts(engine, mapped, make_columns, quarantine, "graph")
    quarantine.check(config.graph_path, parts.num_rows, dict)
    facts = parts.good_rows_embedded(engine).select(*ENDS).distinct().order_by(ENDS)
    return facts.to_pyarrow()


def make_columns(raw: ir.Table) -> tuple[dict[str, ir.Value], list[Fault]]:
    """Returns the columns of raw facts, and what can be wrong with them."""
    columns: dict[str, ir.Value] = {name: readers.as_id(raw[name]) for name in ENDS}
    return columns, [(columns[name].isnull(), f"{name} is missing") for name in ENDS]
