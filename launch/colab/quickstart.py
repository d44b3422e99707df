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
# # recjax: what is sample expansion worth on your log?
#
# This notebook runs the whole program on an embedded simulated shop: it cleans the log, fits a
# hidden Markov model to behaviour, draws synthetic behaviour, lets a gate keep the good part,
# trains a BERT with and without it, and says with intervals what the expansion was worth.
#
# Every step is the same program, `python -m recjax.main`, with one stage. It is sized for two CPU
# cores; on a GPU or TPU runtime (Runtime > Change runtime type) it uses that. Run the cells from
# top to bottom; a cell that was interrupted can be run again and resumes.
#
# <!-- Written in launch/colab/quickstart.py; after a change there:
# jupytext --to ipynb launch/colab/quickstart.py -->

# %% tags=["parameters"]
SOURCE = ""  # on Colab: the git address of recjax; "" where the files are already here
CONFIG = "configs/quickstart.py"
WORKDIR = "runs/notebook"  # on Colab, a folder of a mounted Drive survives the session
OVERRIDES = ""  # e.g. "--config.seed=3 --config.data.simulated_shop.num_users=5000"

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
# ## The devices that JAX sees
# Asked in a process of its own: a TPU belongs to one process at a time, and the stages need it.

# %%
# !{sys.executable} -c "import jax; print(jax.devices())"

# %% [markdown]
# ## Prepare
# Cleans the log, splits it by time, builds the vocabulary and the examples. Bad rows go to
# `prepared/quarantine.parquet`, each with its reason.

# %%
RECJAX = f"{sys.executable} -m recjax.main --config {CONFIG} --workdir {WORKDIR} {OVERRIDES}"
# !{RECJAX} --stages prepare,features

# %% [markdown]
# ## Expand
# Fits the generators to the training part and draws; the gate says what it took out and why.

# %%
# !{RECJAX} --stages expand

# %% [markdown]
# ## Train
# The encoder on real, and on real and synthetic behaviour; then the heads.

# %%
# !{RECJAX} --stages pretrain

# %%
# !{RECJAX} --stages finetune

# %% [markdown]
# ## Evaluate
# Full ranking over the catalogue, with floors, slices and intervals.

# %%
# !{RECJAX} --stages evaluate

# %% [markdown]
# ## Recommend and report

# %%
# !{RECJAX} --stages recommend,report

# %% [markdown]
# ## What came out
# The verdict and every number of the report also lie in `results.json`.

# %% tags=["verdict"]
import json

HEADLINES = ("ndcg_at_10", "hr_at_10", "mrr_at_10", "auc", "logloss")

results = json.loads(Path(WORKDIR, "results.json").read_text())
print(results["verdict"])
for task, tables in results["tasks"].items():
    known = {name for arm in tables["arms"].values() for name in arm["metrics"]}
    metrics = [name for name in HEADLINES if name in known]
    print(f"\n{task:24s}" + "".join(f"{name:>16s}" for name in metrics))
    for arm, facts in tables["arms"].items():
        means = [facts["metrics"].get(name, {}).get("mean") for name in metrics]
        cells = "".join(f"{'-' if mean is None else f'{mean:.4f}':>16s}" for mean in means)
        print(f"{arm:24s}{cells}")

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
# ## Resume
# The same command again: finished stages are skipped, an unfinished training goes on from its last
# checkpoint. That is all there is to do after a session was cut off.

# %% tags=["resume"]
# !{RECJAX}

# %% [markdown]
# ## Your own log
# `launch/colab/your_own_log.ipynb` takes an upload. In short:
#
# `--stages check` looks at a file, proposes the column mapping and writes a ready config:
#
# `python -m recjax.main --config configs/your_log.py --config.data.path=FILE --workdir runs/mine
# --stages check`
