"""Labelled tables: reading, splitting, checking, numbering, and batches of their rows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import default
from recjax.data.feature_settings import make_features
from recjax.data.prepare_rows import RowSource, prepare_rows
from recjax.data.row_batches import RowTrainBatches, row_batches
from recjax.data.row_tables import PARTS, TableConfig, read_labels, read_parts
from recjax.errors import UserError

NUM_ROWS = 60
COLUMNS = {
    "who": [f"u{i % 7}" for i in range(NUM_ROWS)],
    "what": [f"i{i % 11}" for i in range(NUM_ROWS)],
    "when": [(37 * i) % NUM_ROWS for i in range(NUM_ROWS)],
    "label": [i % 3 % 2 for i in range(NUM_ROWS)],
}
FEATURES = make_features(
    default.get_config().prepare.feature.to_dict(), {"who": {}, "what": {"min_count": 3}}
)


def config_of(file, **changes):
    settings = {
        "path": str(file), "delimiter": "auto", "dataset": "", "valid_path": "", "test_path": "",
        "label": "label", "yes": "", "also": {}, "user": "who", "item": "what", "time": "",
        "horizon_days": 30, "method": "rows", "valid_share": 0.2, "test_share": 0.3, "seed": 0,
    }  # fmt: skip
    return TableConfig(**settings | changes)


@pytest.fixture
def rows(tmp_path):
    pq.write_table(pa.table(COLUMNS), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def test_rows_are_split_at_random_once_each(rows):
    parts = read_parts(config_of(rows), ["who"])
    assert [len(parts[part]) for part in PARTS] == [30, 12, 18]
    found = pa.concat_tables(parts.values()).column("who").to_pylist()
    assert sorted(found) == sorted(COLUMNS["who"]) and found != COLUMNS["who"]
    again = read_parts(config_of(rows, seed=1), ["who"])
    assert again["train"] != parts["train"]


def test_the_last_rows_in_time_are_test(rows):
    parts = read_parts(config_of(rows, method="time", time="when"), ["who"])
    assert parts["test"].column("when").to_pylist() == list(range(42, 60))
    assert max(parts["train"].column("when").to_pylist()) == 29


def test_csv_and_files_of_each_part_read_alike(rows, tmp_path):
    lines = [",".join(COLUMNS), *(",".join(map(str, row)) for row in zip(*COLUMNS.values(),
                                                                       strict=True))]  # fmt: skip
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    config = config_of(tmp_path / "rows.csv", valid_path=str(rows), test_path=str(rows))
    parts = read_parts(config, ["who", "what"])
    assert parts["train"].column("who").to_pylist() == COLUMNS["who"]
    assert parts["valid"].column("what").to_pylist() == COLUMNS["what"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "klick"}, "has no column 'klick'"),
        ({"label": "when"}, r"column 'when' \(config.data.table.label\) is [0-9]+ in row"),
        ({"path": "absent.csv"}, "config.data.path: no file matches absent.csv"),
        ({"method": "time"}, "config.data.table.time is ''"),
        ({"method": "leave_one_out"}, "split.method='leave_one_out'; a table is split by one of"),
        ({"test_share": 0.9}, "give shares above 0 that leave something for training"),
        ({"valid_path": "x"}, "give valid_path and test_path, or neither"),
        ({"dataset": "criteo"}, "dataset='criteo'; known: frappe"),
    ],
)
def test_bad_input_has_one_message(rows, changes, message):
    with pytest.raises(UserError, match=message):
        read_parts(config_of(rows, **changes), ["who"])


def test_one_class_only_is_refused(tmp_path):
    pq.write_table(pa.table(COLUMNS | {"label": [1] * NUM_ROWS}), tmp_path / "ones.parquet")
    with pytest.raises(UserError, match="train part has labels of one kind only"):
        read_parts(config_of(tmp_path / "ones.parquet"), ["who"])


def test_a_word_can_mean_yes(tmp_path):
    words = ["Yes" if label else "No" for label in COLUMNS["label"]]
    pq.write_table(pa.table(COLUMNS | {"label": words}), tmp_path / "words.parquet")
    config = config_of(tmp_path / "words.parquet", yes="Yes")
    parts = read_parts(config, ["who"])
    assert sum(read_labels(part, config.outcomes[0]).sum() for part in parts.values()) == sum(
        COLUMNS["label"]
    )
    with pytest.raises(UserError, match="one kind only.*yes = 'yes'"):
        read_parts(config_of(tmp_path / "words.parquet", yes="yes"), ["who"])
    with pytest.raises(UserError, match="column 'label' .* is '(Yes|No)' in row 1; a label is 0"):
        read_parts(config_of(tmp_path / "words.parquet"), ["who"])


@pytest.fixture
def prepared(rows, tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    profile = prepare_rows(config_of(rows), FEATURES, folder)
    return folder, profile


def test_prepared_rows_are_those_of_the_table(prepared, rows):
    folder, profile = prepared
    assert json.loads((folder / "profile.json").read_text()) == profile
    source = RowSource(folder / "rows" / "train")
    part = read_parts(config_of(rows), ["who", "what"])["train"]
    assert len(source) == 30 and source.values is None
    assert source.label.tolist() == part.column("label").to_pylist()
    names = np.array(part.column("who").to_pylist())
    for owner in (source.user, source.ids[:, 0]):
        assert len(set(zip(owner.tolist(), names, strict=True))) == len(set(names))
    counts = profile["parts"]["train"]
    assert counts["rows"] == 30 and counts["positives"] == source.label.sum()
    rare = profile["parts"]["test"]["unknown"]["what"]
    assert 0 < rare < 1 and profile["parts"]["test"]["unknown"]["who"] == 0


def test_training_batches_take_every_row_once_an_epoch_and_go_on_where_they_were(prepared):
    source = RowSource(prepared[0] / "rows" / "train")
    batches = iter(RowTrainBatches(source, batch_size=12, seeds=(3, 4)))
    taken = [next(batches) for _ in range(2)]
    state = batches.get_state()
    third = next(batches)
    taken.append(third)
    assert taken[0]["ids"].shape == (2, 12, 2) and taken[0]["row"].shape == (2, 12)
    epoch = np.concatenate([b["ids"] for b in taken], axis=1)[:, :30]
    for member in epoch:
        assert sorted(map(tuple, member.tolist())) == sorted(map(tuple, source.ids.tolist()))
    assert (epoch[0] != epoch[1]).any()
    resumed = iter(RowTrainBatches(source, batch_size=12, seeds=(3, 4)))
    resumed.set_state(state)
    again = next(resumed)
    assert all(np.array_equal(again[name], third[name]) for name in third)
    halves = iter(RowTrainBatches(source, batch_size=12, seeds=(3, 4), rows=range(6, 12)))
    np.testing.assert_array_equal(next(halves)["ids"], taken[0]["ids"][:, 6:])


def test_judging_batches_cover_each_row_once(prepared):
    source = RowSource(prepared[0] / "rows" / "test")
    batches = list(row_batches(source, batch_size=8))
    mask = np.concatenate([batch["row_mask"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    assert mask.sum() == 18 and len(batches) == 3
    np.testing.assert_array_equal(labels[mask], source.label)
    assert batches[-1]["weight"].tolist() == [1.0, 1.0] + [0.0] * 6
