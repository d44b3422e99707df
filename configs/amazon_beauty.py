"""Amazon Beauty, 5-core sequences, the published leave-one-out protocol (S3-Rec's file).

Full ranking over 12,101 items, own history masked, ties at half rank. The file is one line per
user, "user item item ...", in order; times are not in it, so gaps say nothing.

Command:  python -m recjax.main --config configs/amazon_beauty.py \
              --config.data.path=Beauty.txt.gz --workdir runs/beauty
Time:     TIME_BEAUTY
Result:   RESULT_BEAUTY
Verified: DATE
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the Amazon Beauty configuration."""
    config = default.get_config()
    config.name = "amazon_beauty"
    config.num_seeds = 5
    config.data.format = "sequences"
    config.data.time_unit = "order"
    config.data.default_action = "review"
    cleaning = config.prepare.cleaning
    cleaning.drop_duplicates = False  # the published file is used as it is
    cleaning.earliest_time = ""
    cleaning.latest_time = ""
    cleaning.bot_max_events_per_minute = 0
    cleaning.bot_max_events_per_day = 0
    cleaning.bot_min_gap_regularity = 0.0
    cleaning.user_core = 0
    cleaning.item_core = 0
    config.prepare.split.method = "leave_one_out"
    config.finetune.tasks = ("next_item",)
    config.expansion.ratio = 2.0
    config.expansion.hmm.num_states = 64
    config.model.inputs = ("item", "position")
    config.model.dropout_rate = 0.4
    config.pretrain.objective = "next_item"
    for training, num_steps in ((config.pretrain, 600), (config.finetune.next_item, 600)):
        training.num_steps = num_steps
        training.learning_rate = 2e-3
        training.warmup_steps = 50
    return config
