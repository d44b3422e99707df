"""All strategies by name. To add one: a file in `generate` or `edit`, and a line here."""

from recjax.expansion.edit import (
    ActionChange,
    Crop,
    GapNoise,
    Insert,
    Reorder,
    Reverse,
    SlidingWindow,
    Splice,
    SubsetSplit,
    Substitute,
    SwapNoise,
)
from recjax.expansion.generate import (
    HmmBasket,
    HmmContinue,
    HmmFill,
    HmmPrefix,
    HmmTail,
    HmmUsers,
    MarkovChain,
    MaskedFill,
    Repeat,
    SequenceGan,
    SequenceVae,
    SimilarWalk,
    Transformer,
    TrueProcess,
)
from recjax.expansion.strategy import Strategy

# the order is the number in a record's `source` (1 + place): append, never insert
STRATEGIES: dict[str, Strategy] = {
    "hmm_users": HmmUsers(),
    "hmm_continue": HmmContinue(),
    "true_process": TrueProcess(),
    "repeat": Repeat(),
    "sliding_window": SlidingWindow(),
    "subset_split": SubsetSplit(),
    "hmm_prefix": HmmPrefix(),
    "hmm_fill": HmmFill(),
    "hmm_tail": HmmTail(),
    "markov_chain": MarkovChain(),
    "crop": Crop(),
    "reorder": Reorder(),
    "reverse": Reverse(),
    "substitute": Substitute(),
    "insert": Insert(),
    "swap_noise": SwapNoise(),
    "gap_noise": GapNoise(),
    "action_change": ActionChange(),
    "splice": Splice(),
    "transformer": Transformer(),
    "sequence_vae": SequenceVae(),
    "masked_fill": MaskedFill(),
    "similar_walk": SimilarWalk(),
    "hmm_basket": HmmBasket(),
    "sequence_gan": SequenceGan(),
}


def get_strategy(name: str) -> Strategy:
    """Returns the strategy of that name.

    Raises:
        ValueError: if there is none; names those that exist.
    """
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r}; known are {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def get_source_index(name: str) -> int:
    """Returns the number that marks records of this strategy, 1 or more (0 = real).

    Raises:
        ValueError: if there is no such strategy.
    """
    get_strategy(name)
    return 1 + list(STRATEGIES).index(name)
