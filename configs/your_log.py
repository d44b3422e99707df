"""A shop's own log: look at it with the check stage, then run the whole path.

Command:  python -m recjax.main --config configs/your_log.py --config.data.path=FILE \
              --workdir runs/mine --stages check
          prints the profile and problems, and writes runs/mine/your_log.py, a ready config; then
          python -m recjax.main --config runs/mine/your_log.py --workdir runs/mine
Time:     the check stage estimates it for your file
Result:   report.html in the work directory
Verified: check and prepare 2026-11-22; the training stages run in the other configs
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the starting point for a behaviour log with times."""
    config = default.get_config()
    config.name = "your_log"
    config.data.source = "file"
    config.num_seeds = 5
    config.expansion.arms = ConfigDict(
        {
            "expanded": ConfigDict({"hmm_users": 0.5, "hmm_continue": 0.5}),
            "repeated": ConfigDict({"repeat": 1.0}),  # the placebo: no new information
        }
    )
    config.pretrain.num_steps = 3000
    config.finetune.next_item.num_steps = 3000
    config.finetune.click.num_steps = 2000
    return config
