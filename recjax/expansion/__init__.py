"""Sample expansion: strategies that make synthetic behaviour, the gate, and the report card.

The way of the data: `fit_generator` (once per seed) -> `expand_arm` (strategies by share, each
through the gate) -> records that the stage writes -> `make_report_card`. Real users are read only;
synthetic records carry `source` >= 1 and never leave the training part.

Axes: B users, T events, V item ids, K states, A actions, G gap bins, H hashes, C categories.
"""

from recjax.expansion.arm_settings import ArmSettings, settings_of_arms
from recjax.expansion.arms import expand_arm, find_held_out, split_counts
from recjax.expansion.clicks import ClickConfig, ClickMaker
from recjax.expansion.edit import EditConfig
from recjax.expansion.fresh_users import FreshUsers, stack_fresh_users
from recjax.expansion.gate import GateConfig, GateCounts, RealReference, build_reference, run_gate
from recjax.expansion.generate import (
    GeneratorConfig,
    GeneratorState,
    ItemFacts,
    MaskedModel,
    NextItemModel,
    fit_generator,
    load_generator,
    next_item_log_scores,
    save_generator,
)
from recjax.expansion.registry import STRATEGIES, get_source_index, get_strategy
from recjax.expansion.report_card import make_report_card
from recjax.expansion.similarity import (
    SimilarItems,
    SimilarityConfig,
    compare_vectors,
    count_co_visits,
    make_graph_vectors,
)
from recjax.expansion.strategy import ExpansionData, Strategy
from recjax.expansion.teacher import Teacher, stack_teachers

__all__ = [
    "STRATEGIES",
    "ArmSettings",
    "ClickConfig",
    "ClickMaker",
    "EditConfig",
    "ExpansionData",
    "FreshUsers",
    "GateConfig",
    "GateCounts",
    "GeneratorConfig",
    "GeneratorState",
    "ItemFacts",
    "MaskedModel",
    "NextItemModel",
    "RealReference",
    "SimilarItems",
    "SimilarityConfig",
    "Strategy",
    "Teacher",
    "build_reference",
    "compare_vectors",
    "count_co_visits",
    "expand_arm",
    "find_held_out",
    "fit_generator",
    "get_source_index",
    "get_strategy",
    "load_generator",
    "make_graph_vectors",
    "make_report_card",
    "next_item_log_scores",
    "run_gate",
    "save_generator",
    "settings_of_arms",
    "split_counts",
    "stack_fresh_users",
    "stack_teachers",
]
