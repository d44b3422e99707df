"""The catalogue: one row per item, with title, category path, brand, price and image vector.

Read once at the start of prepare, so that a wrong catalogue is told before the long work. Bad rows
go to quarantine. Vocabulary ids and the item table are made elsewhere (vocabulary.py, items.py).
"""

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from recjax.data import readers, sources, tables
from recjax.data.engine import Engine
from recjax.data.quarantine import Quarantine
from recjax.data.readers import Fault
from recjax.data.settings import CatalogueConfig
from recjax.data.sources import SourceFile
from recjax.errors import UserError

PATH_KEY, COLUMNS_KEY = "config.data.catalogue_path", "config.data.catalogue_columns"
LEVEL = " > "  # between the levels of a category path
REPEATED = "item_id was seen in an earlier row"


def read_catalogue(
    engine: Engine, config: CatalogueConfig, quarantine: Quarantine
) -> pa.Table | None:
    """Returns the catalogue in file order, or None if the config names none.

    Columns: item_id string; of title, category, brand (string), price (float32) and image_vector
    (list of float32) those that are mapped, null where unknown; all other columns by their own
    name. Everything is held in memory, as the item table is later.

    Raises:
        UserError: if a file or mapped column is missing, no title is there, or too many rows are
            bad.
    """
    if not config.catalogue_path:
        return None
    files = [
        (file, _mapping(file, config))
        for file in sources.describe_all(
            config.catalogue_path, PATH_KEY, config.catalogue_columns.values()
        )
    ]
    parts = tables.read_parts(engine, files, make_columns, quarantine, "catalogue")
    rows = parts.good_rows_embedded(engine)
    order = ibis.row_number().over(ibis.window(group_by=rows.item_id, order_by=rows.row))
    ranked = engine.keep(rows.mutate(place=order), "catalogue_ranked")
    repeated = ranked.filter(ranked.place > 0)
    values = readers.row_values(repeated, {"item_id": "item_id"})
    quarantine.add_rows_of(config.catalogue_path, repeated.select("row", values=values), REPEATED)
    quarantine.check(config.catalogue_path, parts.num_rows, dict)
    first = ranked.filter(ranked.place == 0).order_by("row").drop("place", "row")
    catalogue = first.to_pyarrow()
    _check_titles(catalogue, config)
    return catalogue


def make_columns(raw: ir.Table) -> tuple[dict[str, ir.Value], list[Fault]]:
    """Returns the typed columns of raw catalogue rows, and what can be wrong with them."""
    columns: dict[str, ir.Value] = {"item_id": readers.as_id(raw.item_id)}
    faults = [(columns["item_id"].isnull(), "item_id is missing")]
    for name in ("title", "category", "brand"):
        if name in raw.columns:
            columns[name] = _text_or_path(raw[name])
    if "price" in raw.columns:
        columns["price"], wrong = readers.as_number(raw.price, "float32")
        faults.append((wrong, "price is not a number"))
    if "image_vector" in raw.columns:
        vector = raw.image_vector.try_cast("array<float32>")
        columns["image_vector"] = vector
        wrong = raw.image_vector.notnull() & vector.isnull()
        faults.append((wrong, "image_vector is not a list of numbers"))
    mapped = {"row", *columns}
    others = {name: raw[name] for name in raw.columns if name not in mapped and name[:2] != "__"}
    return columns | others, faults


def _mapping(file: SourceFile, config: CatalogueConfig) -> dict[str, str]:
    named = dict(config.catalogue_columns)
    if not named["item_id"]:
        raise UserError(f"{COLUMNS_KEY}.item_id is ''; every catalogue needs this column")
    title = named.get("title", "")
    if title and title not in file.columns:
        raise UserError(
            f"{file.path}: this catalogue has no title column {title!r} ({COLUMNS_KEY}.title); it "
            f"has: {', '.join(file.columns[:30])}. Name the right one, or set "
            f"{COLUMNS_KEY}.title='' if the items have no titles"
        )
    mapped = sources.require_columns(file, named, COLUMNS_KEY)
    return mapped | sources.other_columns(file, mapped, COLUMNS_KEY)


def _text_or_path(column: ir.Column) -> ir.StringValue:
    if column.type().is_array():
        return column.cast("array<string>").join(LEVEL).nullif("")
    return readers.as_text(column)


def _check_titles(catalogue: pa.Table, config: CatalogueConfig) -> None:
    titled = "title" in catalogue.column_names
    if titled and catalogue["title"].null_count == len(catalogue):
        raise UserError(
            f"{config.catalogue_path}: all titles are empty (column "
            f"{config.catalogue_columns['title']!r}); set {COLUMNS_KEY}.title='' if there are none"
        )
