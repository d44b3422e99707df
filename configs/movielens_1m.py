"""MovieLens-1M, the sequences that SASRec and BERT4Rec used, leave-one-out, length 200.

The file has one "user item" pair per line, in order. From the original ratings.dat instead:
--config.data.source=tfds --config.data.tfds_name=movielens_1m (downloads, or builds from the
folder in data.path).

Command:  python -m recjax.main --config configs/movielens_1m.py \
              --config.data.path=ml-1m.txt.gz --workdir runs/movielens_1m
Time:     not measured at full length; 7 minutes at 20 steps a training on 2 shared CPU cores
Result:   of that cut run only: counting floor HR@10 .2578 (NDCG@10 .1497, tuned on 500 users)
Verified: 2026-11-22 end to end with reduced steps, JAX 0.10.2
"""

from ml_collections import ConfigDict

from configs import amazon_beauty


def get_config() -> ConfigDict:
    """Returns the MovieLens-1M configuration."""
    config = amazon_beauty.get_config()
    config.name = "movielens_1m"
    config.data.default_action = "rate"
    config.prepare.max_history = 200
    config.model.max_len = 200
    config.expansion.hmm.max_len = 200
    config.expansion.hmm.batch_size = 128
    config.pretrain.batch_size = 32
    config.finetune.next_item.batch_size = 32
    config.evaluate.batch_size = 128
    return config
