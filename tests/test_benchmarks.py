"""The programs that measure still run, and what they wrote can be read by another program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
RECORDS = sorted((FOLDER / "results").glob("*.json"))
PROGRAMS = sorted(
    path for path in FOLDER.glob("*.py") if 'if __name__ == "__main__"' in path.read_text()
)


def test_every_program_has_its_record() -> None:
    assert {path.stem for path in PROGRAMS} == {path.stem for path in RECORDS}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_names_command_machine_and_flat_rows(path: Path) -> None:
    record = json.loads(path.read_text())
    keys = set(record) - {"note"}  # what a reader must know of how rows came about
    assert keys == {"command", "date", "git", "hardware", "versions", "rows"}
    assert f"benchmarks/{path.stem}.py" in record["command"]
    assert not any(Path(word).is_absolute() for word in record["command"].split())
    assert record["rows"] and {"jax", "python"} <= set(record["versions"])
    for row in record["rows"]:
        assert all(value is None or isinstance(value, (str, int, float)) for value in row.values())


def test_comparison_of_speed_has_both_sides_in_one_row() -> None:
    rows = json.loads((FOLDER / "results" / "hmm_speed.json").read_text())["rows"]
    for work in ("draw", "em"):
        kinds = {(row["states"], row["items"]) for row in rows if row["work"] == work}
        assert kinds >= {(k, v) for k in (16, 64, 256) for v in (2_000, 12_000, 100_000)}
    compared = [row for row in rows if row["work"] in ("draw", "em")]
    assert all({"recjax", "hmmlearn", "dynamax"} <= set(row) for row in compared)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_quick_run_writes_a_record(path: Path, tmp_path: Path) -> None:
    if "--data" in path.read_text():
        pytest.skip("measures public logs, which are not part of the project")
    output = tmp_path / "record.json"
    command = [sys.executable, str(path), "--quick", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())["rows"]
