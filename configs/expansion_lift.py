"""One cell of the expansion lift table: a round, a data set, a share of its users, an arm.

The cell's name is ROUND/DATA/SHARE/ARM. SHARE is in percent, "20.3" the fourth of five disjoint
shares of 20 %. ARM is STRATEGY[-xRATIO][-SCHEDULE][-kernel][-soft], strategies joined by "+" in
equal parts; "kernel" is a generator whose kernel chooses nine of ten items; "soft" gives half of
every target to the generator's distribution, in both trainings; "real" is the real-only arm alone,
"real_again" the same with other seeds. `benchmarks/expansion_lift.py` runs all cells of a round and
makes the table.

Command:  python -m recjax.main --config configs/expansion_lift.py:screen/beauty/20/hmm_users \
              --config.data.path=Beauty.txt.gz --workdir runs/lift_hmm_users
Time:     see benchmarks/results/expansion_lift.json
Result:   see benchmarks/results/expansion_lift.json
Verified: 2026-11-24, one of the eleven cells of Beauty's screen, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import amazon_beauty, quickstart, taobao_multi_behaviour

RATIO = 2.0  # synthetic users per real one, where the arm's name does not say
KERNEL_SHARE = 0.9
SOFT_TARGETS = 0.5
SCHEDULES = {  # (share of the steps, share of synthetic records)
    "draws": ((0.0, 1.0),),  # pretrained on draws alone, fine-tuned on real users
    "fade": ((0.3, 1.0), (0.8, 0.0)),
    "half": ((0.0, 0.5),),
}
CONTROL_NAMES = {"repeat": "repeated"}  # strategies whose arm the results know as a control
FILES = {  # below the folder of data sets; "" = made up
    "beauty": "amazon_beauty/Beauty.txt.gz",
    "toys": "amazon_toys/Toys_and_Games.txt.gz",
    "taobao": "taobao_mb/events.parquet",
    "rees46": "rees46_sessions/events.parquet",
    "shop": "",
}
FOLDS = tuple(f"20.{fold}" for fold in range(5))
ROUNDS = {  # part judged, seeds, steps of pretraining and fine-tuning, and the cells' names
    "screen": {
        "part": "valid",
        "num_seeds": 2,
        "steps": (2000, 500),
        "data": ("beauty",),
        "shares": ("20",),
        "arms": (
            "repeat",
            "hmm_users-x5-draws",
            "hmm_users-x0-kernel-soft",
            "hmm_users-x5-fade-kernel-soft",
            "hmm_continue",
            "hmm_users-x5-draws-kernel",
            "sliding_window",
            "hmm_users-kernel",
            "hmm_users",
            "subset_split",
            "hmm_users-x5-fade-kernel",
        ),
    },
    "refine": {  # of the best three arms of the screen
        "part": "valid",
        "num_seeds": 2,
        "steps": (4000, 1000),
        "data": ("beauty",),
        "shares": ("20",),
        "arms": ("repeat", "sliding_window"),
        "ratios": (0.5, 1.0, 2.0, 5.0, 10.0),
        "schedules": ("", "draws", "fade"),
    },
    "confirm": {  # of the arm that the refined round chose
        "part": "test",
        "num_seeds": 5,
        "steps": (8000, 2000),
        "data": tuple(FILES),
        "shares": (*FOLDS, "100"),
        "arms": ("repeat", "sliding_window", "real_again"),
    },
}


def get_config(cell: str = "screen/beauty/20/hmm_users") -> ConfigDict:
    """Returns the configuration of a cell.

    Raises:
        ValueError: if the name is not understood.
    """
    name, data, share, arm = cell.split("/") if cell.count("/") == 3 else ("", "", "", "")
    if name not in ROUNDS or data not in FILES:
        raise ValueError(
            f"cell {cell!r}: give ROUND/DATA/SHARE/ARM, rounds {', '.join(ROUNDS)}, data "
            f"{', '.join(FILES)}"
        )
    chosen = ROUNDS[name]
    config = _log(data)
    config.name = f"expansion_lift_{data}_{share}_{arm}"
    config.num_seeds = chosen["num_seeds"]
    percent, _, fold = share.partition(".")
    config.prepare.split.user_share = float(percent) / 100
    config.prepare.split.user_fold = int(fold or 0)
    config.evaluate.part = chosen["part"]
    config.evaluate.fusion_weights = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
    _set_training(config, *chosen["steps"])
    _set_arm(config, arm)
    return config


def arm_name(arm: str) -> str:
    """Returns how the results of a cell name its arm."""
    strategy = arm.split("-")[0]
    return CONTROL_NAMES.get(strategy, arm.replace("-", "_").replace("+", "_"))


def _log(data: str) -> ConfigDict:
    if data == "shop":
        config = quickstart.get_config()
    elif data == "taobao":
        config = taobao_multi_behaviour.get_config()
    else:
        config = amazon_beauty.get_config()
    if data == "rees46":  # a session stands for a user
        config.data.format, config.data.time_unit = "parquet", "seconds"
        config.data.columns.user_id = "user_session"
        config.data.columns.action = ""
        config.data.default_action = "view"
        config.prepare.cleaning.user_core = 3
    config.finetune.tasks = ("next_item",)
    config.data.path = ""
    return config


def _set_training(config: ConfigDict, pretrain_steps: int, finetune_steps: int) -> None:
    """The same for every arm; sampled softmax, a fraction of the full one's time on a CPU."""
    trainings = config.pretrain, config.finetune.next_item
    for training, steps in zip(trainings, (pretrain_steps, finetune_steps), strict=True):
        training.batch_size = 16  # rows of users packed to 50 events
        training.num_steps = steps
        training.loss = "sampled"
        training.eval_interval_steps = steps // 10
        training.early_stop_evals = 4
    config.logging.tensorboard = False
    config.evaluate.floors = ("counting", "popularity")
    config.evaluate.data_curve_shares = ()


def _set_arm(config: ConfigDict, arm: str) -> None:
    strategies, *rest = arm.split("-")
    ratios = [float(word[1:]) for word in rest if word.startswith("x")]
    schedules = [SCHEDULES[word] for word in rest if word in SCHEDULES]
    config.expansion.hmm.kernel_share = KERNEL_SHARE if "kernel" in rest else 0.0
    config.expansion.ratio = ratios[0] if ratios else RATIO
    config.expansion.synthetic_share = schedules[0] if schedules else ()
    if "soft" in rest:
        config.expansion.soft_targets, config.expansion.use_in = SOFT_TARGETS, "both"
    config.expansion.arms = ConfigDict()
    if strategies == "real_again":
        config.seed = 100
    elif strategies != "real":
        mix = {strategy: 1.0 for strategy in strategies.split("+")}
        config.expansion.arms[arm_name(arm)] = ConfigDict(mix)
