"""The smallest complete run: every stage on a tiny simulated shop, for tests and first looks.

Command:  python -m recjax.main --config configs/smoke.py --workdir runs/smoke
Time:     about a minute and a half on 2 CPU cores, most of it compiling
Result:   none worth reading; the shop is too small to tell anything
Verified: 2026-11-22, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import quickstart


def get_config() -> ConfigDict:
    """Returns the smoke-test configuration."""
    config = quickstart.get_config()
    config.name = "smoke"
    config.num_seeds = 2
    config.data.simulated_shop.num_users = 300
    config.data.simulated_shop.num_items = 80
    config.data.simulated_shop.num_days = 30
    config.expansion.arms = ConfigDict(
        {"expanded": ConfigDict({"hmm_users": 0.5, "hmm_continue": 0.5})}
    )
    config.expansion.ratio = 1.0
    config.expansion.hmm.num_states = 4
    config.expansion.hmm.num_iterations = 3
    config.expansion.hmm.batch_size = 64
    config.model.num_layers = 1
    config.model.hidden_dim = 16
    config.model.mlp_dim = 32
    config.model.max_len = 16
    config.prepare.max_history = 16
    config.prepare.text.vocab_size = 300
    config.expansion.hmm.max_len = 16
    for training in (config.pretrain, config.finetune.next_item, config.finetune.click):
        training.batch_size = 16
        training.num_steps = 12
        training.eval_interval_steps = 6
        training.warmup_steps = 2
    config.checkpoint.interval_steps = 4
    config.logging.interval_steps = 4
    config.logging.tensorboard = False
    config.evaluate.batch_size = 64
    config.evaluate.bootstrap_samples = 200
    config.evaluate.fusion_weights = (0.0, 1.0)
    config.evaluate.calibration = "temperature"
    return config
