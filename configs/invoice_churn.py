"""Which customers stay away: 30 days without a purchase, from the invoices of UCI Online Retail.

One row is a customer who bought in the 30 days before a cut, cuts 30 days apart
(`recjax.data.datasets.user_churn`), split by time. For a log of your own with user_id, item_id and
timestamp: --config.data.table.dataset=user_churn. "recency_frequency" is the floor of churn models:
a logistic regression of days since the last purchase and of days with one.

Command:  python -m recjax.main --config configs/invoice_churn.py \
              --config.data.path=online_retail.xlsx --workdir runs/churn
          python -m recjax.main --config configs/invoice_churn.py:recency_frequency \
              --config.data.path=online_retail.xlsx --workdir runs/churn_floor
Time:     4 minutes on 2 CPU cores that did other work too
Result:   test AUC of 5 seeds, floor .7248; of all features dcnv2 .7379, fm .7370, dnn .7367, lr
          .7310, finalmlp .7280; settings are untuned
Verified: 2026-11-28 end to end, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import churn_telco

FEATURES = {
    "recency_frequency": ("days_since_last", "days_active"),
    "all": (
        "days_since_last", "days_since_first", "events", "items", "days_active", "events_recent",
        "days_recent",
    ),
}  # fmt: skip


def get_config(features: str = "all") -> ConfigDict:
    """Returns the configuration with "all" features or those of the floor.

    Raises:
        ValueError: for other features.
    """
    if features not in FEATURES:
        raise ValueError(f"{features!r} is unknown; known: {', '.join(FEATURES)}")
    config = churn_telco.get_config()
    config.name = f"invoice_churn_{features}"
    config.data.table.update(dataset="invoice_churn", horizon_days=30)
    config.data.table.update(label="churned", yes="", user="user", time="timestamp")
    config.prepare.split.update(method="time", valid_share=0.1, test_share=0.2)
    config.prepare.features = ConfigDict(
        {
            name: ConfigDict({"kind": "number", "scale": "log", "num_buckets": 16})
            for name in FEATURES[features]
        }
    )
    if features == "recency_frequency":
        config.finetune.row_click.heads = ("lr",)
    return config
