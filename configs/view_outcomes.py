"""A log of views, carts and purchases: was a viewed item put into the cart, was it bought?

One row is a user and an item viewed (`recjax.data.datasets.view_outcomes`), split by time. A
purchase counts as taken, so that outcomes follow one another: what ESMM and AITM are made for.
Made for the public RetailRocket extract of buyers; any log with user_id, item_id, behavior and
timestamp will do.

Command:  python -m recjax.main --config configs/view_outcomes.py \
              --config.data.path=events.parquet --workdir runs/view_outcomes
Time:     6 minutes on 2 CPU cores that did other work too
Result:   test AUC of 5 seeds, taken / bought: floor .5436/.5404, alone .6408/.6591, shared bottom
          .6382/.6536, MMoE .6412/.6573, PLE .6417/.6579, ESMM .6399/.6633, AITM .6446/.6671: all
          intervals on the difference to each alone have 0 in them
Verified: 2026-11-28 end to end, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import adult_multitask

CATEGORIES = ("user", "item", "hour", "weekday")
COUNTS = ("user_views", "user_carts", "user_buys", "item_views", "item_carts", "item_buys")


def get_config() -> ConfigDict:
    """Returns the configuration of outcomes of views."""
    config = adult_multitask.get_config()
    config.name = "view_outcomes"
    config.data.table.dataset = "view_outcomes"
    config.data.table.update(label="taken", yes="", user="user", item="item", time="timestamp")
    config.data.table.also = ConfigDict({"bought": ConfigDict({"column": "bought", "yes": ""})})
    config.prepare.split.method = "time"
    config.prepare.split.valid_share = 0.1
    config.prepare.split.test_share = 0.2
    config.prepare.features = ConfigDict(
        {name: ConfigDict({"min_count": 3}) for name in CATEGORIES}
        | {
            name: ConfigDict({"kind": "number", "scale": "log", "num_buckets": 12})
            for name in COUNTS
        }
    )
    training = config.finetune.row_outcomes
    training.heads = ("shared_bottom", "mmoe", "ple", "esmm", "aitm")
    training.table_l2 = 1e-2
    return config
