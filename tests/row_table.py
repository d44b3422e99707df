"""A labelled table made here, and an experiment on it: yes where user and item go together.

Further outcomes come in some of these rows, each only where the one before it came.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ml_collections import ConfigDict
from rich.console import Console

from recjax.context import Context
from recjax.logs import Progress
from recjax.row_experiment import RowExperiment
from recjax.stages import prepare_table
from recjax.workdir import Workdir

NUM_ROWS = 240


def write_table(path, names=("user", "item", "hour"), outcomes=()):
    """Writes NUM_ROWS rows with these columns, `label` and further outcomes as Parquet."""
    numbers = np.random.default_rng(0)
    codes = {name: numbers.integers(6 + 3 * i, size=NUM_ROWS) for i, name in enumerate(names)}
    first, second = (codes[name] for name in names[:2])
    columns = {name: [f"{name}{code}" for code in column] for name, column in codes.items()}
    columns["label"] = ((first + second) % 2 == 0).astype(int).tolist()
    came = np.array(columns["label"])
    for name in outcomes:
        came = came * (first % 3 > 0)
        columns[name] = came.tolist()
    pq.write_table(pa.table(columns), path)


def use_table(config, path):
    """Lets a config read the table at `path`, by the features that it declares, or all columns."""
    names = tuple(config.prepare.features) or ("user", "item", "hour")
    outcomes = tuple(config.data.table.also)
    write_table(path, names, outcomes)
    config.data.table.also = ConfigDict(
        {name: ConfigDict({"column": name, "yes": ""}) for name in outcomes}
    )
    config.data.kind, config.data.path, config.data.table.dataset = "table", str(path), ""
    config.data.table.update(label="label", yes="", time="")
    for owner in ("user", "item"):
        if config.data.table[owner] not in names:
            config.data.table[owner] = ""
    config.prepare.split.method = "rows"
    config.prepare.features = ConfigDict({name: ConfigDict() for name in names})
    config.num_seeds, config.logging.tensorboard = 1, False
    config.parallel.prefetch_batches = 0
    for section in (config.finetune.row_click, config.finetune.row_outcomes):
        section.batch_size = config.evaluate.batch_size = 16


def make_row_experiment(config, folder):
    """An experiment on prepared rows of a made-up table."""
    use_table(config, folder / "rows.parquet")
    workdir = Workdir.open(folder / "work")
    context = Context(config, workdir, Progress(workdir, Console(quiet=True)))
    prepare_table.prepare_table(context)
    return RowExperiment(context)
