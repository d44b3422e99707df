"""Frappe (AFN's split, Frappe_x1): click-through heads on ten fields, against the pair floor.

Validation and test are the published files. Without the published training file in the folder, the
training part is rebuilt from the log with drawn negatives (`recjax.data.datasets.frappe`), and
figures are not those of the published training part.

Command:  python -m recjax.main --config configs/ctr_frappe.py --config.data.path=FOLDER \
              --workdir runs/frappe
Time:     about 4 minutes a head and 5 seeds on 2 shared CPU cores
Result:   AUC of 5 seeds, deepfm .9842, dnn .9839, floor .9679; benchmarks/results/ctr_frappe.json
Verified: 2026-11-28, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import default

FIELDS = (
    "user", "item", "daytime", "weekday", "isweekend",
    "homework", "cost", "weather", "country", "city",
)  # fmt: skip


def get_config() -> ConfigDict:
    """Returns the Frappe configuration."""
    config = default.get_config()
    config.name = "ctr_frappe"
    config.num_seeds = 5
    config.stages = ("prepare", "finetune", "evaluate", "report")
    config.data.kind = "table"
    config.data.table.dataset = "frappe"
    config.data.table.user = "user"
    config.data.table.item = "item"
    config.prepare.features = ConfigDict({name: ConfigDict() for name in FIELDS})
    config.finetune.tasks = ("row_click",)
    config.pretrain.num_steps = 0
    config.expansion.arms = ConfigDict()
    training = config.finetune.row_click
    training.batch_size = 4096
    training.num_steps = 750  # 15 epochs
    training.eval_interval_steps = 50
    training.warmup_steps = 0
    training.optimizer = "adam"
    training.learning_rate = 3.5e-3
    training.clip_norm = 0.0
    training.table_l2 = 0.0185
    training.model.hidden_dims = (256, 128)
    training.model.norm = "batch"
    training.model.dropout_rate = 0.1
    config.checkpoint.interval_steps = 10_000
    config.logging.interval_steps = 50
    config.evaluate.batch_size = 8192
    config.evaluate.calibration = "temperature"
    config.evaluate.ensembles = True
    return config
