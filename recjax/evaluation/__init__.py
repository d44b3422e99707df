"""Honest evaluation: full ranking, floors, slices, intervals, calibration, results.json.

Imports numpy and scipy, and the vocabulary's constants of `recjax.data`. Models are not known here:
they arrive as ranks, scores or click probabilities. Axes: S seeds, N targets (users), B rows, V
ids.
"""

from recjax.evaluation.arms import comparisons, treatments
from recjax.evaluation.beyond_accuracy import ListStatistics
from recjax.evaluation.calibration import (
    PairFloor,
    auc,
    expected_calibration_error,
    log_losses,
    reliability_bins,
)
from recjax.evaluation.counts import CountingSettings, LogCounts, count_log
from recjax.evaluation.floors import (
    CountingFloor,
    CountingGrid,
    Ease,
    Examples,
    Floor,
    ItemKnn,
    Popularity,
    fit_floor,
    rank_examples,
    tune_counting,
)
from recjax.evaluation.ranking import metrics_per_user, rank_scores, top_n
from recjax.evaluation.results import (
    StatisticsConfig,
    arm_summary,
    assemble_results,
    click_task,
    plain,
    ranked_task,
)
from recjax.evaluation.schema import validate_results
from recjax.evaluation.slices import ExampleFacts, new_categories, slice_masks
from recjax.evaluation.statistics import bootstrap_interval, bootstrap_lift, holm
from recjax.evaluation.verdicts import verdict

__all__ = [
    "CountingFloor",
    "CountingGrid",
    "CountingSettings",
    "Ease",
    "ExampleFacts",
    "Examples",
    "Floor",
    "ItemKnn",
    "ListStatistics",
    "LogCounts",
    "PairFloor",
    "Popularity",
    "StatisticsConfig",
    "arm_summary",
    "assemble_results",
    "auc",
    "bootstrap_interval",
    "bootstrap_lift",
    "click_task",
    "comparisons",
    "count_log",
    "expected_calibration_error",
    "fit_floor",
    "holm",
    "log_losses",
    "metrics_per_user",
    "new_categories",
    "plain",
    "rank_examples",
    "rank_scores",
    "ranked_task",
    "reliability_bins",
    "slice_masks",
    "top_n",
    "treatments",
    "tune_counting",
    "validate_results",
    "verdict",
]
