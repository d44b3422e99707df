"""An experiment on made-up records, with no prepared log behind it."""

from example_records import make_item_table, make_records
from rich.console import Console

from recjax.context import Context
from recjax.data.record_sources import ListSource
from recjax.experiment import Experiment
from recjax.logs import Progress
from recjax.workdir import Workdir


def make_experiment(config, folder, monkeypatch):
    """An experiment with 24 records of each kind and split, and no pretraining to start from."""
    config.num_seeds, config.logging.tensorboard = 1, False
    config.parallel.prefetch_batches = 0
    for training in (config.pretrain, config.finetune.next_item, config.finetune.click):
        training.batch_size = 8
    config.evaluate.batch_size = 8
    workdir = Workdir.open(folder)
    experiment = Experiment(Context(config, workdir, Progress(workdir, Console(quiet=True))))
    sources = {
        (kind, split): ListSource(make_records(kind, 24))
        for kind in ("sequences", "next_item", "click")
        for split in ("train", "valid", "test")
    }
    monkeypatch.setattr(Experiment, "examples", lambda self, kind, split: sources[kind, split])
    monkeypatch.setattr(Experiment, "_pretrained", lambda self, arm: None)
    experiment.__dict__["items"] = make_item_table()
    return experiment
