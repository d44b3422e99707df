"""Strategies that make new users or events: one small file each behind `expansion.strategy`."""

from recjax.expansion.generate.generator import (
    GeneratorConfig,
    GeneratorState,
    fit_generator,
    split_users,
)
from recjax.expansion.generate.generator_file import load_generator, save_generator
from recjax.expansion.generate.hmm_basket import HmmBasket
from recjax.expansion.generate.hmm_continue import HmmContinue
from recjax.expansion.generate.hmm_fill import HmmFill
from recjax.expansion.generate.hmm_prefix import HmmPrefix
from recjax.expansion.generate.hmm_tail import HmmTail
from recjax.expansion.generate.hmm_users import HmmUsers
from recjax.expansion.generate.item_by_item import NextItemModel
from recjax.expansion.generate.item_facts import ItemFacts
from recjax.expansion.generate.markov_chain import MarkovChain
from recjax.expansion.generate.masked_fill import MaskedFill, MaskedModel
from recjax.expansion.generate.next_item import next_item_log_scores
from recjax.expansion.generate.repeat import Repeat
from recjax.expansion.generate.sequence_gan import SequenceGan
from recjax.expansion.generate.sequence_vae import SequenceVae
from recjax.expansion.generate.similar_walk import SimilarWalk
from recjax.expansion.generate.transformer import Transformer
from recjax.expansion.generate.true_process import TrueProcess

__all__ = [
    "GeneratorConfig",
    "GeneratorState",
    "HmmBasket",
    "HmmContinue",
    "HmmFill",
    "HmmPrefix",
    "HmmTail",
    "HmmUsers",
    "ItemFacts",
    "MarkovChain",
    "MaskedFill",
    "MaskedModel",
    "NextItemModel",
    "Repeat",
    "SequenceGan",
    "SequenceVae",
    "SimilarWalk",
    "Transformer",
    "TrueProcess",
    "fit_generator",
    "load_generator",
    "next_item_log_scores",
    "save_generator",
    "split_users",
]
