"""Telco churn: which customers leave, from a table of contracts; heads against a linear model.

Command:  python -m recjax.main --config configs/churn_telco.py \
              --config.data.path=Telco-Customer-Churn.csv --workdir runs/churn_telco
Time:     46 seconds on 2 shared CPU cores
Result:   AUC of 5 seeds, fm .8670, dcnv2 .8636, dnn .8613, lr .8593 (the floor), finalmlp .8541;
          settings are untuned
Verified: 2026-11-28 end to end, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import default

CATEGORIES = (
    "gender", "SeniorCitizen", "Partner", "Dependents", "PhoneService", "MultipleLines",
    "InternetService", "OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport",
    "StreamingTV", "StreamingMovies", "Contract", "PaperlessBilling", "PaymentMethod",
)  # fmt: skip
NUMBERS = ("tenure", "MonthlyCharges", "TotalCharges")


def get_config() -> ConfigDict:
    """Returns the churn configuration."""
    config = default.get_config()
    config.name = "churn_telco"
    config.num_seeds = 5
    config.stages = ("prepare", "finetune", "evaluate", "report")
    config.data.kind = "table"
    config.data.table.label = "Churn"
    config.data.table.yes = "Yes"
    config.prepare.split.method = "rows"
    config.prepare.split.valid_share = 0.2
    config.prepare.split.test_share = 0.2
    config.prepare.features = ConfigDict(
        {name: ConfigDict() for name in CATEGORIES}
        | {name: ConfigDict({"kind": "number", "num_buckets": 16}) for name in NUMBERS}
    )
    config.finetune.tasks = ("row_click",)
    config.pretrain.num_steps = 0
    config.expansion.arms = ConfigDict()
    training = config.finetune.row_click
    training.heads = ("lr", "fm", "dnn", "dcnv2", "finalmlp")
    training.batch_size = 256
    training.num_steps = 400
    training.eval_interval_steps = 20
    training.warmup_steps = 0
    training.optimizer = "adam"
    training.learning_rate = 3e-3
    training.clip_norm = 0.0
    training.table_l2 = 1e-3
    training.model.hidden_dims = (64, 32)
    training.model.norm = "batch"
    training.model.dropout_rate = 0.2
    training.model.embedding_dim = 8
    config.checkpoint.interval_steps = 10_000
    config.logging.interval_steps = 50
    config.evaluate.batch_size = 2048
    config.evaluate.calibration = "temperature"
    return config
