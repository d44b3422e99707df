"""prepare, for a labelled table: its rows become numbered ones, its features a schema."""

from typing import Any

from recjax.context import Context
from recjax.data.feature_settings import make_features
from recjax.data.prepare_rows import prepare_rows
from recjax.data.row_tables import TableConfig
from recjax.errors import UserError


def prepare_table(context: Context) -> dict[str, Any]:
    """Writes prepared/; see `recjax.data.prepare_rows` for what is in it."""
    data, prepare = context.config.data, context.config.prepare
    if data.source != "file":
        raise UserError(f"config.data.source = {data.source!r}; a table is read from files: 'file'")
    split = {name: prepare.split[name] for name in ("method", "valid_share", "test_share", "seed")}
    table = TableConfig(path=data.path, delimiter=data.delimiter, **data.table, **split)
    features = make_features(prepare.feature, prepare.features)
    with context.workdir.fresh_folder("prepared") as folder:
        profile = prepare_rows(table, features, folder)
    rows = {part: facts["rows"] for part, facts in profile["parts"].items()}
    told = ", ".join(f"{number:,} {part}" for part, number in rows.items())
    context.progress.say(
        f"rows: {told}; {len(features)} features, {profile['table_rows']:,} embedding rows"
    )
    return {"rows": rows}
