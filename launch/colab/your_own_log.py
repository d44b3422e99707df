# ---
# jupyter:
#   accelerator: TPU
#   colab:
#     gpuType: V5E1
#     provenance: []
#   jupytext:
#     cell_metadata_filter: tags
#     notebook_metadata_filter: accelerator,colab
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # recjax on your own log
#
# Upload a behaviour log (CSV, Parquet or JSON lines; a row is an event: user, item, action, time)
# or take the small example. The program looks at it, proposes a column mapping, says what is wrong
# with row numbers, writes a config that is ready to run, and runs it.
#
# Nothing leaves this machine. Run the cells from top to bottom; one that was interrupted resumes.
#
# <!-- Written in launch/colab/your_own_log.py; after a change there:
# jupytext --to ipynb launch/colab/your_own_log.py -->

# %% tags=["parameters"]
SOURCE = ""  # on Colab: the git address of recjax; "" where the files are already here
LOG = ""  # path of your log; "": asks for an upload on Colab, else takes the example
WORKDIR = "runs/own_log"  # on Colab, a folder of a mounted Drive survives the session
OVERRIDES = ""  # e.g. "--config.num_seeds=1 --config.pretrain.num_steps=500"

# %% [markdown]
# ## Install
# Only on Colab and Kaggle; elsewhere the notebook uses the environment that it runs in.

# %% tags=["install"]
import glob
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

MARK = "configs/default.py"  # where this is, there is recjax


def on_colab() -> bool:
    return "google.colab" in sys.modules or bool(
        importlib.util.find_spec("google") and importlib.util.find_spec("google.colab")
    )


def accelerator_extra() -> str:
    """The part of recjax that fits this machine: [tpu], [gpu] or nothing."""
    if glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"):
        return "[tpu]"
    return "[gpu]" if shutil.which("nvidia-smi") else ""


if on_colab() or "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
    if not Path(MARK).exists() and not Path("recjax", MARK).exists():
        if not SOURCE:
            raise SystemExit("Give SOURCE, the git address of recjax, in the first cell.")
        subprocess.run(["git", "clone", "--depth", "1", SOURCE, "recjax"], check=True)
    if not Path(MARK).exists():
        os.chdir("recjax")
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--editable", f".{accelerator_extra()}"], check=True)
while not Path(MARK).exists() and Path.cwd() != Path.cwd().parent:
    os.chdir("..")  # the notebook was opened in its own folder
print("working in", Path.cwd())

# %% [markdown]
# ## The log

# %% tags=["log"]
import csv
import random


def write_example(path: Path, num_users: int = 400) -> None:
    """A tiny shop: users like one of ten aisles and look at its items one after another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw, rows = random.Random(0), []
    for user in range(num_users):
        aisle, when = draw.randrange(10), 1_700_000_000 + draw.randrange(5_000_000)
        for _ in range(draw.randrange(3, 12)):
            if draw.random() < 0.2:
                aisle = draw.randrange(10)
            when += int(draw.expovariate(1 / 40_000))
            action = draw.choices(("view", "cart", "buy"), (8, 2, 1))[0]
            rows.append((f"u{user}", f"i{aisle * 12 + draw.randrange(12)}", action, when))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "action", "timestamp"), *rows])


if not LOG and on_colab():
    from google.colab import files

    LOG = next(iter(files.upload()), "")
if not LOG:
    LOG = f"{WORKDIR}_example.csv"
    write_example(Path(LOG))
print("the log is", LOG)

# %% [markdown]
# ## A first look
# Mapping, profile, problems with row numbers, time and memory that a run will take. It also writes
# `your_log.py`, the config; open it, change what you know better, and run this cell's next ones.

# %%
RECJAX = f"{sys.executable} -m recjax.main --workdir {WORKDIR}"
# !{RECJAX} --config configs/your_log.py --config.data.path={LOG} --stages check

# %% [markdown]
# ## The whole path
# Clean, split by time, draw, train with and without the draws, judge, recommend, report.

# %%
# !{RECJAX} --config {WORKDIR}/your_log.py {OVERRIDES}

# %% [markdown]
# ## What came out

# %% tags=["verdict"]
import json

results = json.loads(Path(WORKDIR, "results.json").read_text())
print(results["verdict"])

# %% tags=["plot"]
import matplotlib.pyplot as plt

judged = results["tasks"]["next_item"]["arms"]
bars = {arm: facts["metrics"]["ndcg_at_10"]["mean"] for arm, facts in judged.items()}
bars = {arm: mean for arm, mean in bars.items() if mean is not None}
figure, axes = plt.subplots(figsize=(7, 0.4 * len(bars) + 1))
axes.barh(list(bars), list(bars.values()), color="#3b6ea5")
axes.set_xlabel("NDCG@10, full ranking, test users")
axes.invert_yaxis()
figure.tight_layout()
plt.show()

# %% tags=["report"]
import html

from IPython.display import HTML, display

page = html.escape(Path(WORKDIR, "report.html").read_text())
frame = f'<iframe srcdoc="{page}" width="100%" height="900" style="border:0"></iframe>'
display(HTML(f"<div>{frame}</div>"))

# %% [markdown]
# `recommendations.parquet` in the work directory has the best items for every user.
