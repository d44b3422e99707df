"""Edits that keep all items are known by what they change: copies of that go, the others stay."""

from dataclasses import replace

import numpy as np
import pytest

from recjax.expansion import ExpansionData, expand_arm
from recjax.expansion.gate import GateConfig, UserIndex, index_users, run_gate
from recjax.expansion.gate.tokens import make_tokens
from recjax.expansion.records import make_record, pad_field


def _record(items, actions, times, user=-1):
    record = make_record(
        np.array(items), np.array(actions), np.array(times), session_gap_seconds=1800, user=user
    )
    return {**record, "source": 1}


def test_tokens_are_equal_where_the_named_fields_are():
    records = [
        _record([7, 8, 7], [0, 1, 0], [0, 100, 200]),
        _record([7, 8, 7], [0, 2, 0], [50, 152, 9000]),
        _record([7, 9], [0, 1], [0, 100]),
    ]
    items = make_tokens(records, ("items",))
    np.testing.assert_array_equal(items, pad_field(records, "items"))
    actions = make_tokens(records, ("items", "actions"))
    assert (actions[0] == actions[1]).tolist() == [True, False, True]
    assert actions[0, 0] == actions[0, 2] != actions[0, 1] and actions[2, 1] != actions[0, 1]
    gaps = make_tokens(records, ("items", "gaps"))
    assert (gaps[0] == gaps[1]).tolist() == [True, True, False], "one bin is one gap"


@pytest.mark.parametrize("field", ["actions", "gaps"])
def test_gate_takes_out_those_whose_changed_field_is_a_users_own(
    field, real_log, reference, gate_config, draw_of
):
    config = replace(gate_config, rare_item_quota=0.0, near_duplicate_jaccard=0.0)
    long_ones = [record for record in real_log if len(record["items"]) > 8][:20]
    draws = [{**record, "source": 1} for record in long_ones]
    for record in draws[10:]:
        if field == "actions":
            record["actions"] = (record["actions"] + 1) % 3
        else:
            record["times"] = record["times"][0] + 9 * (record["times"] - record["times"][0])
    by = ("items", field)
    known = replace(reference, users=index_users(real_log, config, by))
    drawn = UserIndex.empty(config, by)
    records, counts = run_gate(draw_of(draws), 10, config, known, drawn=drawn, draw_size=20)
    assert [record["user"] for record in records] == [record["user"] for record in draws[10:]]
    assert counts.removed == {"copy_of_real": 10}


def test_draws_that_keep_their_items_are_judged_like_others(
    real_log, generator, edit_config, reference, gate_config
):
    data = ExpansionData(real_log, 1800, 5, 16, generator, edits=edit_config)
    narrow = replace(gate_config, likelihood_band=(0.2, 0.8), rare_item_quota=0.0)
    for name in ("gap_noise", "action_change"):
        records, counts = expand_arm({name: 1.0}, 0.5, 0, data, reference, narrow)
        assert len(list(records)) == counts[name].kept > 50
        removed = counts[name].removed
        assert removed["below_likelihood_band"] > 10 and removed["above_likelihood_band"] > 10
    mild = replace(data, edits=replace(edit_config, gap_scale=0.02))
    records, counts = expand_arm({"gap_noise": 1.0}, 0.5, 0, mild, reference, narrow)
    assert list(records) and counts["gap_noise"].removed["copy_of_real"] > 50


def test_index_without_near_copies_holds_hashes_alone(real_log, gate_config: GateConfig):
    off = replace(gate_config, near_duplicate_jaccard=0.0)
    index = index_users(real_log, off, ("items", "gaps"))
    assert index.near is None and index.by == ("items", "gaps")
