"""HSTU: pointwise attention with gates, position and time bias, full softmax, no expansion.

Leave-one-out, every item ranked, own history masked, ties at half rank. As `configs.sasrec` but
for the encoder. Zhai et al. (2024), "Actions Speak Louder than Words: Trillion-Parameter
Sequential Transducers for Generative Recommendations".

Command:  python -m recjax.main --config configs/hstu.py:beauty \
              --config.data.path=Beauty.txt.gz --workdir runs/hstu_beauty
          python -m recjax.main --config configs/hstu.py:ml1m \
              --config.data.path=ml-1m.txt.gz --workdir runs/hstu_ml1m
Time:     not measured at full length
Result:   none yet: no run at full length; to be held against `configs/sasrec.py`
Verified: 2026-11-24, Beauty through all stages with 10 steps, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import sasrec


def get_config(data: str = "beauty") -> ConfigDict:
    """Returns the configuration for "beauty" or "ml1m"; raises ValueError for other data."""
    config = sasrec.get_config(data)
    config.name = f"hstu_{data}"
    config.model.encoder = "hstu"
    # The published sequence files say nothing of time, so the bias for gaps has nothing to learn.
    config.model.relative_bias = ("position",)
    return config
