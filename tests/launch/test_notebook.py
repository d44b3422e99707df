"""The notebooks: in step with their sources, install only on Colab and Kaggle, run to their end.

The quick suite runs every cell on a made-up work directory, its commands read and not run; the slow
tests run all of it in a kernel.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from recjax.main import parse

jupytext = pytest.importorskip("jupytext", reason="pip install 'recjax[test]'")

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "launch/colab/quickstart.py"
SOURCES = sorted((ROOT / "launch/colab").glob("*.py"))
each_notebook = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
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


@each_notebook
def test_notebook_is_in_step_with_its_source(path: Path) -> None:
    source, notebook = jupytext.read(path), jupytext.read(path.with_suffix(".ipynb"))
    advice = f"run: jupytext --to ipynb launch/colab/{path.name}"
    plain = [[(c.cell_type, c.source, c.metadata) for c in n.cells] for n in (source, notebook)]
    assert plain[0] == plain[1], advice
    for key in ("accelerator", "colab", "kernelspec"):
        assert source.metadata.get(key) == notebook.metadata.get(key), advice


@each_notebook
def test_notebook_opens_on_a_tpu(path: Path) -> None:
    metadata = jupytext.read(path.with_suffix(".ipynb")).metadata
    assert metadata["accelerator"] == "TPU"
    if "kaggle" not in path.stem:
        assert metadata["colab"] == {"gpuType": "V5E1", "provenance": []}


@each_notebook
def test_notebooks_install_alike(path: Path) -> None:
    cells = (tagged(jupytext.read(p), "install").source for p in (path, SOURCE))
    assert next(cells) == next(cells)


@each_notebook
def test_notebook_is_committed_without_outputs(path: Path) -> None:
    cells = jupytext.read(path.with_suffix(".ipynb")).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code and all(not c.outputs and c.execution_count is None for c in code)


def run_install_cell(monkeypatch, folder: Path, parameters: str = "") -> list[list[str]]:
    """Runs the first two code cells in `folder`; returns the commands that they gave."""
    notebook, commands = jupytext.read(SOURCE), []

    def record(command: list[str], check: bool) -> None:
        commands.append(command)
        if command[0] == "git":
            (folder / "recjax/configs").mkdir(parents=True)
            (folder / "recjax/configs/default.py").touch()

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


def test_install_cell_on_kaggle_clones_and_installs(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    commands = run_install_cell(monkeypatch, tmp_path, "SOURCE = 'address'")
    assert [command[0] for command in commands] == ["git", sys.executable]


def test_install_cell_on_colab_without_an_address_says_so(monkeypatch, tmp_path, colab) -> None:
    with pytest.raises(SystemExit, match="SOURCE"):
        run_install_cell(monkeypatch, tmp_path)


def test_install_cell_elsewhere_installs_nothing_and_finds_the_root(monkeypatch) -> None:
    assert run_install_cell(monkeypatch, ROOT / "launch/colab") == []
    assert Path.cwd() == ROOT


def make_finished(folder: Path) -> None:
    """What the cells read of a run that is over."""
    arms = {"real": 0.18, "expanded": 0.19, "unknown": None}
    judged = {arm: {"metrics": {"ndcg_at_10": {"mean": mean}}} for arm, mean in arms.items()}
    results = {"verdict": "nothing", "tasks": {"next_item": {"arms": judged}}}
    trained = folder / "pretrain/real"
    trained.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "report.html").write_text("<p>here</p>")
    rows = [{"step": step, "seed": 0, "train/loss": 4.0 / step} for step in (1, 2)]
    (trained / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (trained / "parameters.txt").write_text("table cut over fsdp")


class Cells:
    """Runs the code of a notebook without a kernel; commands are read, not run."""

    def __init__(self, workdir: Path, monkeypatch) -> None:
        import matplotlib.pyplot as plt

        self.workdir, self.figures = workdir, 0
        self.stages: list[str] = []
        self.shown: list[str] = []
        ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        ipython.get_ipython, ipython.version_info = lambda: None, (9, 0)  # matplotlib asks
        display.HTML, display.display = str, self.shown.append
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        plt.switch_backend("agg")
        monkeypatch.setattr(plt, "show", self.show)

    def show(self) -> None:
        import matplotlib.pyplot as plt

        self.figures += bool(plt.gcf().axes[0].has_data())
        plt.close("all")

    def shell(self, line: str) -> None:
        words = shlex.split(line)
        assert words[0] == sys.executable
        if words[1:3] == ["-m", "recjax.main"]:
            command = parse(words[3:])
            assert Path(command.workdir).is_relative_to(self.workdir)
            self.stages += command.stages
            if command.stages == ("check",):  # which writes the config that comes next
                shutil.copy(ROOT / "configs/your_log.py", self.workdir)

    def run(self, path: Path, settings: str) -> None:
        names = {"__name__": "notebook", "shell": self.shell}
        notebook = jupytext.read(path.with_suffix(".ipynb"))
        tagged(notebook, "parameters").source += f"\nWORKDIR = {str(self.workdir)!r}\n{settings}"
        for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
            lines = [
                f"shell(f{line[1:]!r})" if line.startswith("!") else line
                for line in cell.source.splitlines()
            ]
            exec("\n".join(lines), names)


ALL_STAGES = ["prepare", "features", "expand", "pretrain", "finetune", "evaluate", "recommend"]
ALL_STAGES += ["report"]


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("quickstart", 2 * ALL_STAGES),  # the last cell resumes
        ("your_own_log", ["check", *ALL_STAGES]),
        ("kaggle_v5e8", ["prepare", "features", "expand", "pretrain", "pretrain"]),
    ],
)
def test_every_cell_runs_and_every_command_is_understood(
    tmp_path: Path, monkeypatch, capsys, name: str, stages: list[str]
) -> None:
    monkeypatch.chdir(ROOT / "launch/colab")
    workdir = tmp_path / "run"
    make_finished(workdir / "data" if name == "kaggle_v5e8" else workdir)
    cells = Cells(workdir, monkeypatch)
    cells.run(SOURCE.with_name(f"{name}.py"), "OVERRIDES = '--config.seed=3'")
    assert cells.stages == stages and cells.figures == 1
    said = capsys.readouterr().out
    if name == "kaggle_v5e8":
        assert "2 points, at most 0.0e+00 apart" in said and "cut over fsdp" in said
    else:
        assert "nothing" in said and "&lt;p&gt;here" in cells.shown[0]


def execute(path: Path, folder: Path, monkeypatch, settings: str):
    """Runs a notebook to its end in this very interpreter; every command must end with 0."""
    nbclient = pytest.importorskip("nbclient", reason="pip install 'recjax[notebook]'")
    pytest.importorskip("ipykernel", reason="pip install 'recjax[notebook]'")
    notebook = jupytext.read(path.with_suffix(".ipynb"))
    tagged(notebook, "parameters").source += f"\nWORKDIR = {str(folder / 'run')!r}\n{settings}\n"
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.splitlines()[-1].startswith("!"):
            cell.source += "\nassert _exit_code == 0"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook.metadata.kernelspec.name = _own_kernel(folder, monkeypatch)
    nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return notebook


def has_plot(cell) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")  # the notebook machinery's own; the program runs outside
def test_quickstart_runs_to_the_report(tmp_path: Path, monkeypatch) -> None:
    notebook = execute(SOURCE, tmp_path, monkeypatch, f"OVERRIDES = {TINY!r}")
    verdict = tagged(notebook, "verdict").outputs[0]["text"]
    assert "ndcg_at_10" in verdict and "expanded" in verdict
    assert has_plot(tagged(notebook, "plot"))
    assert "<iframe srcdoc=" in tagged(notebook, "report").outputs[0]["data"]["text/html"]
    assert "(done before)" in str(tagged(notebook, "resume").outputs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_own_log_runs_from_the_example_to_the_report(tmp_path: Path, monkeypatch) -> None:
    small = " ".join(word for word in TINY.split() if "simulated_shop" not in word)
    path = SOURCE.with_name("your_own_log.py")
    notebook = execute(path, tmp_path, monkeypatch, f"OVERRIDES = {small!r}")
    assert (tmp_path / "run_example.csv").exists()
    assert tagged(notebook, "verdict").outputs[0]["text"].strip()
    assert has_plot(tagged(notebook, "plot"))
    assert "<iframe srcdoc=" in tagged(notebook, "report").outputs[0]["data"]["text/html"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_two_meshes_give_the_same_losses(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    words = "--config.logging.interval_steps=1"
    settings = f"CONFIG = 'configs/smoke.py'\nOVERRIDES = {words!r}"
    path = SOURCE.with_name("kaggle_v5e8.py")
    notebook = execute(path, tmp_path, monkeypatch, settings)
    cell = tagged(notebook, "losses")
    apart = float(cell.outputs[0]["text"].split()[-2])
    assert apart < 1e-4 and has_plot(cell)
    table = str(tagged(notebook, "parameters_table").outputs)
    assert "fsdp" in table


def _own_kernel(folder: Path, monkeypatch) -> str:
    """Registers this very interpreter as a kernel that only this test sees."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(str(folder / "jupyter/kernels/recjax-test"))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    return "recjax-test"
