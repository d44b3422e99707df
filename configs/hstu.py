"""HSTU: pointwise attention with gates, position and time bias, full softmax, no expansion.

Leave-one-out, every item ranked, own history masked, ties at half rank. As `configs.sasrec` but
for the encoder. Zhai et al. (2024), "Actions Speak Louder than Words: Trillion-Parameter
Sequential Transducers for Generative Recommendations".

Command:  python -m recjax.main --config configs/hstu.py:beauty \
              --config.data.path=Beauty.txt.gz --workdir runs/hstu_beauty
          python -m recjax.main --config configs/hstu.py:ml1m \
              --config.data.path=ml-1m.txt.gz --workdir runs/hstu_ml1m
Time:     Beauty with --config.num_seeds=1: 3,000 steps of .4 s and more, on 2 CPU cores that did
          other work too
Result:   Beauty, test, seed 0: NDCG@10 / HR@10 .0545/.0902, counting floor .0516/.0815; the
          transformer of `configs/sasrec.py` .0551/.0907. ML-1M not run
Verified: 2026-11-28, Beauty to the end with one seed, JAX 0.10.2
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
