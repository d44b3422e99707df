import pytest

from configs import smoke
from recjax.errors import UserError
from recjax.tuning.chosen import with_settings
from recjax.tuning.space import Dimension, TuneConfig

SPACE = (
    ("pretrain.learning_rate", "log", 1e-4, 1e-2),
    ("model.dropout_rate", "float", 0, 0.5),
    ("model.num_layers", "int", 1, 4),
    ("finetune.next_item.schedule", "choice", ("linear", "cosine")),
)


def make_tune(**changes):
    return TuneConfig(**{**smoke.get_config().tune, "space": SPACE, **changes})


def test_entries_become_dimensions():
    assert make_tune().dimensions == (
        Dimension("pretrain.learning_rate", "log", (1e-4, 1e-2)),
        Dimension("model.dropout_rate", "float", (0, 0.5)),
        Dimension("model.num_layers", "int", (1, 4)),
        Dimension("finetune.next_item.schedule", "choice", ("linear", "cosine")),
    )


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("model.num_layers", "int", 4, 1), "model.num_layers: low = 4 must be below high = 1"),
        (("model.num_layers", "int", 1.0, 4), "model.num_layers: 'int' takes two numbers"),
        (("model.num_layers", "int", 1), "two numbers"),
        (("model.scan", "float", False, True), "two numbers"),
        (("model.dropout_rate", "log", 0.0, 0.5), "model.dropout_rate: 'log' needs low above 0"),
        (("model.dropout_rate", "uniform", 0.0, 0.5), "'uniform' is unknown; known: .*choice"),
        (("model.norm", "choice", ("pre",)), "2 or more different choices"),
        (("model.norm", "choice", ("pre", "pre")), "2 or more different choices"),
        (("model.norm", "choice"), "is not .key, kind, low, high."),
        (("model.norm", "choice", 3), "is not .key, kind, low, high."),
        ("model.norm", "unknown"),
        (("prepare.num_gap_bins", "int", 2, 4), "does not change a trial of 'next_item'"),
        (("finetune.click.learning_rate", "log", 1e-4, 1e-2), "does not change a trial"),
        (("pretrain.num_steps", "int", 2, 4), "is the same for every trial"),
        (("finetune.next_item.eval_interval_steps", "int", 2, 4), "is the same for every trial"),
    ],
)
def test_bad_entry_is_named(entry, words):
    with pytest.raises(ValueError, match=f"space: .*{words}"):
        make_tune(space=(entry,)).dimensions  # noqa: B018  (read for its error)


@pytest.mark.parametrize("space", [(), (SPACE[0], SPACE[0])])
def test_space_names_keys_each_once(space):
    with pytest.raises(ValueError, match="at least one key, each once"):
        make_tune(space=space).dimensions  # noqa: B018


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_trials", 0), ("num_seeds", 0), ("num_rungs", -1), ("reduction_factor", 1)],
)
def test_number_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}; give at least"):
        make_tune(**{name: value})


def test_settings_change_a_copy():
    config = smoke.get_config()
    config.lock()
    settings = {"model.dropout_rate": 0.25, "finetune.next_item.schedule": "linear"}
    changed = with_settings(config, settings)
    assert changed.model.dropout_rate == 0.25
    assert changed.finetune.next_item.schedule == "linear"
    assert config.model.dropout_rate == 0.2 and config.finetune.next_item.schedule == "cosine"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.droput_rate": 0.1}, "'model.droput_rate' does not exist; .* 'dropout_rate'"),
        ({"modell.dropout_rate": 0.1}, "'modell.dropout_rate' does not exist; .* 'model'"),
        ({"model.norm.kind": "pre"}, "'model.norm.kind' does not exist"),
        ({"model.num_layers": 1.5}, "model.num_layers = 1.5 is of the wrong type; .* int"),
        ({"model.norm": 2}, "model.norm = 2 is of the wrong type; the key's is str"),
        ({"model": 2}, "model = 2 is of the wrong type"),
    ],
)
def test_key_that_is_not_there_and_wrong_type_are_named(settings, words):
    with pytest.raises(UserError, match=f"config.tune.space: .*{words}"):
        with_settings(smoke.get_config(), settings)
