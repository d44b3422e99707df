"""Cross-validation by config: one prepare per fold, each fold's users are its test part."""

import pyarrow.parquet as pq

from recjax import main
from recjax.data.record_sources import open_examples

NUM_FOLDS, NUM_USERS = 3, 31


def test_folds_give_disjoint_test_parts_that_cover_all_users(tmp_path):
    log = tmp_path / "log.csv"
    rows = [
        f"u{user},i{(7 * user + 3 * event) % 25},view,{1_700_000_000 + 3600 * event + user}"
        for user in range(NUM_USERS)
        for event in range(8)
    ]
    log.write_text("\n".join(["user_id,item_id,action,timestamp", *rows]) + "\n")
    everyone, tested = {f"u{user}" for user in range(NUM_USERS)}, []
    for fold in range(NUM_FOLDS):
        prepare(tmp_path / str(fold), log, fold)
        train = users_of(tmp_path / str(fold), "sequences", "train")
        valid = users_of(tmp_path / str(fold), "next_item", "valid")
        test = users_of(tmp_path / str(fold), "next_item", "test")
        assert train | valid | test == everyone
        assert len(train) + len(valid) + len(test) == NUM_USERS
        assert {len(valid), len(test)} <= {NUM_USERS // NUM_FOLDS, NUM_USERS // NUM_FOLDS + 1}
        tested += test
    assert len(tested) == NUM_USERS and set(tested) == everyone


def prepare(workdir, log, fold):
    flags = [
        *("--config=configs/smoke.py", f"--workdir={workdir}", "--stages=prepare"),
        *("--config.data.source=file", f"--config.data.path={log}"),
        *("--config.prepare.split.method=folds", f"--config.prepare.split.fold={fold}"),
        f"--config.prepare.split.num_folds={NUM_FOLDS}",
    ]
    assert main.main(flags) == 0


def users_of(workdir, name, part):
    names = pq.read_table(workdir / "prepared" / "users.parquet")["user_id"].to_pylist()
    source = open_examples(workdir / "prepared" / "examples", name, part)
    return {names[source[place]["user"]] for place in range(len(source))}
