import importlib.util
import io

import pytest
from rich.console import Console

from configs import amazon_beauty, default, quickstart, smoke
from recjax.main import parse
from recjax.tuning.chosen import render_config, with_settings
from recjax.tuning.study import DIVERGED, PRUNED, Trial
from recjax.tuning.table import print_trials, trial_rows

SETTINGS = {"model.inputs": ("item", "gap"), "pretrain.learning_rate": 0.00123456789}
CHOSEN = Trial("real", 1, SETTINGS, "complete", {10: 0.2}, "ndcg_at_10", (0.1, 0.3), 10, 2.5)


def load(path):
    spec = importlib.util.spec_from_file_location("chosen", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("base", [default, quickstart, smoke, amazon_beauty])
def test_written_config_gives_the_chosen_settings_and_all_others(tmp_path, base):
    config = base.get_config()
    config.data.action_names = {"pv": "view"}  # what a flag or a config of one's own may change
    config = with_settings(config, SETTINGS)
    path = tmp_path / "chosen_real.py"
    path.write_text(render_config(config, CHOSEN, 20))
    assert load(path).to_dict() == config.to_dict()


def test_program_takes_the_written_config(tmp_path):
    config = with_settings(smoke.get_config(), SETTINGS)
    path = tmp_path / "chosen_real.py"
    path.write_text(render_config(config, CHOSEN, 20))
    read = parse([f"--config={path}", f"--workdir={tmp_path}"]).config
    assert read.to_dict() == config.to_dict()
    header = path.read_text().split('"""')[1]
    for words in ("'real'", "Trial 1 of 20", "ndcg_at_10 0.2000 on validation", "2 seed(s)"):
        assert words in header


def test_table_shows_every_trial_and_rows_hold_every_number():
    trials = [
        Trial("real", 0, SETTINGS, PRUNED, {5: 0.1}, "ndcg_at_10", (0.1,), 5, 1.0),
        CHOSEN,
        Trial("real", 2, SETTINGS, DIVERGED, {}, "", (), 0, 0.0),
    ]
    console = Console(width=160, file=io.StringIO())
    print_trials(trials, console)
    text = console.file.getvalue()
    for words in ("real: 3 trials", "trial 1 is chosen", PRUNED, DIVERGED, "0.2000", "0.00123"):
        assert words in text
    rows = trial_rows(trials)
    assert [row["mean"] for row in rows] == [0.1, pytest.approx(0.2), None]
    assert rows[1]["per_seed"] == (0.1, 0.3) and rows[1]["settings"] == SETTINGS
