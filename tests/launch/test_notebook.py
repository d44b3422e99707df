"""The Colab notebook: in step with its source, installs only on Colab, and runs from end to end."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="pip install 'recjax[test]'")

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "launch/colab/quickstart.py"
TINY = " ".join(
    f"--config.{setting}"
    for setting in (
        "num_seeds=2",
        "data.simulated_shop.num_users=300",
        "data.simulated_shop.num_items=80",
        "pretrain.num_steps=10",
        "finetune.next_item.num_steps=10",
        "finetune.click.num_steps=10",
        "expansion.hmm.num_iterations=2",
        "evaluate.bootstrap_samples=100",
    )
)


def tagged(notebook, tag: str):
    (cell,) = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    return cell


def test_notebook_is_in_step_with_its_source() -> None:
    source, notebook = jupytext.read(SOURCE), jupytext.read(SOURCE.with_suffix(".ipynb"))
    advice = "run: jupytext --to ipynb launch/colab/quickstart.py"
    plain = [[(c.cell_type, c.source, c.metadata) for c in n.cells] for n in (source, notebook)]
    assert plain[0] == plain[1], advice
    for key in ("colab", "kernelspec"):
        assert source.metadata[key] == notebook.metadata[key], advice


def test_notebook_is_committed_without_outputs() -> None:
    cells = jupytext.read(SOURCE.with_suffix(".ipynb")).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code and all(not c.outputs and c.execution_count is None for c in code)


def run_install_cell(monkeypatch, folder: Path, parameters: str = "") -> list[list[str]]:
    """Runs the first two code cells in `folder`; returns the commands that they gave."""
    notebook, commands = jupytext.read(SOURCE), []

    def record(command: list[str], check: bool) -> None:
        commands.append(command)
        if command[0] == "git":
            (folder / "recjax/configs").mkdir(parents=True)
            (folder / "recjax/configs/quickstart.py").touch()

    monkeypatch.setattr(subprocess, "run", record)
    monkeypatch.chdir(folder)
    cells = [tagged(notebook, "parameters"), tagged(notebook, "install")]
    exec(f"{cells[0].source}\n{parameters}\n{cells[1].source}", {"__name__": "notebook"})
    return commands


@pytest.fixture
def colab(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


def test_install_cell_on_colab_clones_and_installs(monkeypatch, tmp_path: Path, colab) -> None:
    commands = run_install_cell(monkeypatch, tmp_path, "SOURCE = 'address'")
    assert commands[0] == ["git", "clone", "--depth", "1", "address", "recjax"]
    assert commands[1][:4] == [sys.executable, "-m", "pip", "install"]
    assert Path.cwd() == (tmp_path / "recjax").resolve()


def test_install_cell_run_again_does_not_clone_again(monkeypatch, tmp_path: Path, colab) -> None:
    run_install_cell(monkeypatch, tmp_path, "SOURCE = 'address'")
    again = run_install_cell(monkeypatch, tmp_path / "recjax", "SOURCE = 'address'")
    assert len(again) == 1 and "pip" in again[0]


def test_install_cell_on_colab_without_an_address_says_so(monkeypatch, tmp_path, colab) -> None:
    with pytest.raises(SystemExit, match="SOURCE"):
        run_install_cell(monkeypatch, tmp_path)


def test_install_cell_elsewhere_installs_nothing_and_finds_the_root(monkeypatch) -> None:
    assert run_install_cell(monkeypatch, ROOT / "launch/colab") == []
    assert Path.cwd() == ROOT


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # the notebook machinery's own; the program runs outside
def test_notebook_runs_to_the_report(tmp_path: Path, monkeypatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install 'recjax[notebook]'")
    pytest.importorskip("ipykernel", reason="pip install 'recjax[notebook]'")
    notebook = jupytext.read(SOURCE.with_suffix(".ipynb"))
    settings = f"\nWORKDIR = {str(tmp_path / 'run')!r}\nOVERRIDES = {TINY!r}\n"
    tagged(notebook, "parameters").source += settings
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.splitlines()[-1].startswith("!"):
            cell.source += "\nassert _exit_code == 0"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook.metadata.kernelspec.name = _own_kernel(tmp_path, monkeypatch)
    nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(SOURCE.parent)}}
    ).execute()
    verdict = tagged(notebook, "verdict").outputs[0]["text"]
    assert "ndcg_at_10" in verdict and "expanded" in verdict
    assert "<iframe srcdoc=" in tagged(notebook, "report").outputs[0]["data"]["text/html"]


def _own_kernel(folder: Path, monkeypatch) -> str:
    """Registers this very interpreter as a kernel that only this test sees."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(str(folder / "jupyter/kernels/recjax-test"))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    return "recjax-test"
