"""Each arm's own settings over those of all; schedules of the share of synthetic records."""

import pytest

from recjax.expansion import ArmSettings, settings_of_arms

SHARED = {"ratio": 1.0, "use_in": "pretrain", "synthetic_share": ()}
SHARED |= {"soft_targets": 0.0, "fresh_share": 0.0}


def test_an_override_changes_one_arm_and_one_setting():
    found = settings_of_arms(("a", "b"), SHARED, {"b": {"ratio": 5.0}})
    assert found == {"a": ArmSettings(**SHARED), "b": ArmSettings(5.0, "pretrain", (), 0.0, 0.0)}


@pytest.mark.parametrize(("use", "stages"), [("pretrain", "p"), ("finetune", "f"), ("both", "pf")])
def test_draws_enter_where_they_are_used(use, stages):
    settings = ArmSettings(1.0, use, (), 0.0, 0.0)
    entered = [stage[0] for stage in ("pretrain", "finetune") if settings.enters(stage)]
    assert entered == list(stages)


def test_share_is_level_outside_of_the_points_and_linear_within():
    settings = ArmSettings(1.0, "both", ((0.25, 1.0), (0.5, 0.2)), 0.0, 0.0)
    shares = [settings.share_at(step, num_steps=8) for step in range(8)]
    assert shares == pytest.approx([1, 1, 1, 0.6, 0.2, 0.2, 0.2, 0.2])
    assert ArmSettings(1.0, "both", ((0.0, 0.3),), 0.0, 0.0).share_at(
        7, num_steps=8
    ) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"c": {"ratio": 2.0}}, "overrides.c: no such arm; there are a, b"),
        ({"a": {"mix": 2.0}}, "overrides.a.mix: an arm may have ratio, use_in, "),
        ({"a": {"ratio": -1.0}}, "ratio is -1.0; must be 0 or more"),
        ({"a": {"use_in": "pretraining"}}, "known: pretrain, finetune, both"),
        ({"a": {"soft_targets": 1.5}}, "soft_targets is 1.5; must be from 0 to 1"),
        ({"a": {"fresh_share": -0.5}}, "fresh_share is -0.5; must be from 0 to 1"),
        ({"a": {"synthetic_share": ((0.0, 1.5),)}}, "each from 0 to 1"),
        ({"a": {"synthetic_share": ((0.5, 1.0), (0.5, 0.0))}}, "must rise"),
    ],
)
def test_wrong_settings_are_named(own, message):
    with pytest.raises(ValueError, match=message):
        settings_of_arms(("a", "b"), SHARED, own)
