"""What came of carts: was an item put into the cart bought within seven days, or abandoned?

One row is a pair's first cart (`recjax.data.datasets.cart_outcomes`), split by time. Made for the
public RetailRocket extract of buyers, who buy most of what they put into a cart; any log with
user_id, item_id, behavior and timestamp will do.

Command:  python -m recjax.main --config configs/cart_outcomes.py \
              --config.data.path=events.parquet --workdir runs/cart_outcomes
Time:     3 minutes on 2 CPU cores that did other work too
Result:   test AUC of 5 seeds, lr .6673, fm .6640, dcnv2 .6451, finalmlp .6441, dnn .6300, floor
          (rate of the pair or item so far) .5300; settings are untuned
Verified: 2026-11-28 end to end, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import churn_telco
from configs.view_outcomes import CATEGORIES, COUNTS


def get_config() -> ConfigDict:
    """Returns the configuration of outcomes of carts."""
    config = churn_telco.get_config()
    config.name = "cart_outcomes"
    config.data.table.update(dataset="cart_outcomes", horizon_days=7)
    config.data.table.update(label="bought", yes="", user="user", item="item", time="timestamp")
    config.prepare.split.update(method="time", valid_share=0.1, test_share=0.2)
    config.prepare.features = ConfigDict(
        {name: ConfigDict({"min_count": 3}) for name in CATEGORIES}
        | {
            name: ConfigDict({"kind": "number", "scale": "log", "num_buckets": 12})
            for name in (*COUNTS, "pair_views")
        }
    )
    config.finetune.row_click.table_l2 = 1e-2
    return config
