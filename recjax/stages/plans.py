"""Which plan a run has, by the kind of its data."""

from recjax.context import Context
from recjax.experiment import Experiment
from recjax.row_experiment import RowExperiment
from recjax.stages.kinds import is_table
from recjax.training_plan import TrainingPlan


def open_plan(context: Context) -> TrainingPlan:
    """Returns the plan of a run: of trainings on a behaviour log, or on a labelled table."""
    return RowExperiment(context) if is_table(context.config) else Experiment(context)
