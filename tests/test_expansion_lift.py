"""The runner of the lift table: what it plans, shares and takes up again, and what it concludes."""

import sys
import zlib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from configs import expansion_lift as plan
from recjax.evaluation.results import StatisticsConfig
from recjax.workdir import Workdir, read_json, write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import expansion_lift  # noqa: E402
from lift_table import Cell, correct, judge, rows_of, verdict  # noqa: E402

NUM_USERS = 1200
SETTINGS = StatisticsConfig(bootstrap_samples=400)
SCREEN = ("repeat", "hmm_users", "hmm_users-x5-draws")


def make_ranks(rng, seeds, hit_share):
    hit = rng.random((seeds, NUM_USERS)) < hit_share
    return np.where(hit, rng.integers(0, 10, hit.shape), 500).astype(np.float32)


def finish_cell(folder, cell, hits):
    """Leaves behind what the evaluate stage of a cell would; the same seed gives the same arm."""
    ranks = {}
    for arm, share in hits.items():
        rng = np.random.default_rng(zlib.crc32(arm.encode()))
        ranks[arm] = make_ranks(rng, 1 if arm == "floor" else 3, share)
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "evaluation/next_item_ranks.npz", **ranks)
    halves = {"history_1_4": np.arange(NUM_USERS) < 600, "target_cold": np.arange(NUM_USERS) < 9}
    np.savez(folder / "evaluation/next_item_slices.npz", **halves)
    config = plan.get_config(cell.name).to_dict()
    write_json(folder / "config.json", {"config": config})
    Workdir(folder).finish("evaluate", {})


def cells_of(tmp_path, hits_of):
    """Finished cells: arm -> hit share of each of its results' arms."""
    found = {}
    for arm, hits in hits_of.items():
        cell = Cell("screen", "beauty", "20", arm)
        found[cell] = tmp_path / cell.name
        finish_cell(found[cell], cell, {"floor": 0.05, "real": 0.2, **hits})
    return found


@pytest.fixture
def judged(tmp_path):
    hits = {
        "repeat": {"repeated": 0.22},
        "hmm_users": {"hmm_users": 0.22, "fused": 0.25, "hmm_users_fused": 0.26},
        "hmm_users-x5-draws": {"hmm_users_x5_draws": 0.4, "fused": 0.25},
    }
    return judge(cells_of(tmp_path, hits), SETTINGS)


def test_rows_are_flat_and_hold_each_treatment_against_its_control(judged):
    rows = rows_of("beauty", "20", judged)
    correct(rows)
    whole = {row["arm"]: row for row in rows if row["slice"] == "all"}
    keys = {"data", "share", "arm", "ratio", "slice", "ndcg_at_10", "sd", "seeds", "p_value"}
    assert keys | {"p_holm", "lift", "lift_low", "lift_high"} <= set(rows[0])
    assert all(v is None or isinstance(v, str | int | float) for row in rows for v in row.values())
    assert whole["hmm_users"]["control"] == "fused" and whole["repeated"]["control"] == "real"
    assert whole["hmm_users_fused"]["control"] == "fused"
    draws = whole["hmm_users_x5_draws"]
    assert draws["ratio"] == 5.0 and draws["seeds"] == 3 and draws["share"] == 0.2
    assert draws["lift_low"] > 0 and draws["p_value"] <= draws["p_holm"] < 0.05
    assert {row["slice"] for row in rows} == {"all", "history_1_4"}  # nine targets are too few
    assert "Expansion pays" in verdict(judged) and "hmm_users_x5_draws" in verdict(judged)


def test_equal_arms_are_no_gain(tmp_path):
    """An A/A pair: the treatment is another draw of what the control is."""
    cells = cells_of(tmp_path, {"hmm_users": {"hmm_users": 0.2, "fused": 0.2}})
    judged = judge(cells, SETTINGS)
    rows = rows_of("beauty", "20", judged)
    correct(rows)
    assert min(row["p_holm"] for row in rows if row["arm"] == "hmm_users") > 0.05
    assert "No gain" in verdict(judged)


def test_floor_above_every_model_comes_first(tmp_path):
    found = cells_of(tmp_path, {"hmm_users": {"hmm_users": 0.4, "floor": 0.9}})
    assert "floor beats every model" in verdict(judge(found, SETTINGS))


def test_cells_with_another_real_arm_are_refused(tmp_path):
    found = cells_of(tmp_path, {"repeat": {"repeated": 0.2}, "hmm_users": {"real": 0.5}})
    with pytest.raises(ValueError, match="arm 'real' is not that of other cells"):
        judge(found, SETTINGS)


@pytest.mark.parametrize("arm", ["hmm_users-kernel", "hmm_users-x5-fade-kernel-soft"])
def test_cells_of_another_generator_have_a_fused_control_of_their_own(tmp_path, arm):
    name = arm.replace("-", "_")
    treated = {name: 0.2, "fused": 0.3, f"{name}_fused": 0.4}
    hits = {"hmm_users": {"hmm_users": 0.22, "fused": 0.25}, arm: treated}
    rows = rows_of("beauty", "20", judge(cells_of(tmp_path, hits), SETTINGS))
    controls = {row["arm"]: row["control"] for row in rows if row["slice"] == "all"}
    assert {"fused", "fused_kernel"} <= set(controls)
    assert controls[f"{name}_fused"] == "fused_kernel"


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """A runner whose calls are written down, and end a cell as the program would."""
    made = expansion_lift.Runner(tmp_path, tmp_path)
    made.calls = []

    def call(cell, folder, stages, flags=()):
        made.calls.append((cell.arm, stages))
        if made.stop_at == (cell.arm, stages):
            raise SystemExit(42)
        folder.mkdir(parents=True, exist_ok=True)
        for stage in stages.split(","):
            Workdir(folder).finish(stage, {})
        summary = {"steps": 40, "wall_seconds": 10.0}
        for section in ("pretrain", "finetune/next_item"):
            (folder / section / "repeated").mkdir(parents=True, exist_ok=True)
            write_json(folder / section / "repeated" / "summary.json", summary)
        if "evaluate" in stages:
            finish_cell(folder, cell, {"floor": 0.05, "real": 0.2, plan.arm_name(cell.arm): 0.2})

    monkeypatch.setattr(made, "call", call)
    made.stop_at = None
    return made


def test_a_stopped_round_goes_on_and_repeats_no_cell(runner, tmp_path, capsys):
    cells = [Cell("screen", "beauty", "20", arm) for arm in SCREEN]
    output = Namespace(output=tmp_path / "table.json", quick=False, round="screen")

    def run():
        expansion_lift.tell_time(runner, cells)
        for cell in cells:
            if not runner.is_done(cell):
                runner.run(cell)
            expansion_lift.report(runner, cells, output)

    evaluated = "expand,pretrain,finetune,evaluate"
    runner.stop_at = ("hmm_users", evaluated)
    with pytest.raises(SystemExit):
        run()
    assert "4 arms x 2500 steps x 0.25 s" in capsys.readouterr().out
    table = read_json(output.output)
    assert table["note"].startswith("round screen: 1 of 3 cells")
    assert {row["arm"] for row in table["rows"]} == {"floor", "real", "repeated"}
    runner.stop_at = None
    runner.calls.clear()
    run()
    assert runner.calls == [("hmm_users", evaluated), ("hmm_users-x5-draws", evaluated)]
    runner.calls.clear()
    run()
    assert runner.calls == []
    assert "3 of 3 cells" in read_json(output.output)["note"]


def test_cells_share_what_their_settings_have_in_common(runner):
    folders = []
    for arm in (*SCREEN, "real_again"):
        cell = Cell("screen", "beauty", "20", arm)
        runner.run(cell)
        folders.append(runner.folder(cell))

    def targets(name):
        return [(folder / name).resolve() for folder in folders]

    for name in ("prepared", "expansion/generators", "pretrain/real", "finetune/next_item/real"):
        first, *others, again = targets(name)
        assert others == [first, first] and again != first or name == "prepared"
    assert (
        sum(stages == "prepare,features" for _, stages in runner.calls) == 2
    )  # two seeds of prepare


def test_rounds_take_up_what_the_round_before_chose():
    screen = expansion_lift.plan_cells("screen", ())
    assert {cell.data for cell in screen} == {"beauty"} and len(screen) >= 6
    refine = {cell.arm for cell in expansion_lift.plan_cells("refine", ("hmm_users",))}
    assert {"repeat", "hmm_users-x0.5", "hmm_users-x10-draws", "hmm_users-x5-fade"} <= refine
    confirm = expansion_lift.plan_cells("confirm", ("hmm_users-x5-draws",))
    assert {cell.share for cell in confirm} == {"20.0", "20.1", "20.2", "20.3", "20.4", "100"}
    assert len({cell.data for cell in confirm}) == 5


@pytest.mark.parametrize(
    "cell", [*expansion_lift.plan_cells("confirm", ("hmm_users+subset_split-x5-fade",))][:8]
)
def test_config_of_a_cell_says_what_its_name_does(cell):
    config = plan.get_config(cell.name)
    assert config.evaluate.part == "test" and config.num_seeds == 5
    if cell.arm.endswith("fade"):
        (mix,) = config.expansion.arms.values()
        assert set(mix) == {"hmm_users", "subset_split"} and config.expansion.ratio == 5
        assert config.expansion.synthetic_share == plan.SCHEDULES["fade"]


def test_cell_that_is_none_is_named():
    with pytest.raises(ValueError, match="give ROUND/DATA/SHARE/ARM, rounds screen, refine"):
        plan.get_config("screen/beauty/hmm_users")
