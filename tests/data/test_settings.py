import pytest

from recjax.errors import UserError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.format": "xls"}, ["config.data.format", "xls", "parquet"]),
        ({"data.time_unit": "weeks"}, ["config.data.time_unit", "seconds"]),
        ({"data.actions": ()}, ["config.data.actions", "empty"]),
        ({"data.default_action": "sniff"}, ["default_action", "sniff", "view"]),
        ({"data.action_names": {"pv": "look"}}, ["action_names.pv", "look", "view"]),
        ({"prepare.backend": "abacus"}, ["config.prepare.backend", "duckdb"]),
        ({"prepare.memory_gib": 0.0}, ["config.prepare.memory_gib"]),
        ({"prepare.target_actions": ("sniff",)}, ["target_actions", "sniff"]),
        ({"prepare.split.method": "halves"}, ["split.method", "halves", "leave_one_out"]),
        ({"prepare.split.valid_share": 0.0}, ["split.valid_share"]),
        ({"prepare.split.test_share": 0.95}, ["test_share", "1.05"]),
        ({"prepare.split.user_share": 0.0}, ["split.user_share"]),
        ({"prepare.split.user_fold": 1}, ["user_fold=1", "0..0"]),
        ({"prepare.split.method": "folds", "prepare.split.num_folds": 2}, ["num_folds=2"]),
        ({"prepare.split.method": "folds", "prepare.split.fold": 5}, ["fold=5", "0..4"]),
    ],
)
def test_wrong_value_is_named_with_its_key(make_settings, changes, words) -> None:
    with pytest.raises(UserError) as caught:
        make_settings("x", changes)
    assert all(word in str(caught.value) for word in words), caught.value


def test_shares_are_not_asked_of_leave_one_out(make_settings) -> None:
    changes = {"prepare.split.method": "leave_one_out", "prepare.split.valid_share": 0.0}
    assert make_settings("x", changes).split.valid_share == 0
