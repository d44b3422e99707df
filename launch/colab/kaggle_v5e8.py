# ---
# jupyter:
#   accelerator: TPU
#   jupytext:
#     cell_metadata_filter: tags
#     notebook_metadata_filter: accelerator
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # recjax on a mesh of eight chips
#
# A Kaggle notebook with the accelerator "TPU v5e-8" has eight chips in one host: enough for a real
# mesh. This notebook trains the same model on two meshes, data-parallel and with the item table cut
# over the chips, and shows that they give the same losses and what lies where.
#
# <!-- Written in launch/colab/kaggle_v5e8.py; after a change there:
# jupytext --to ipynb launch/colab/kaggle_v5e8.py -->

# %% tags=["parameters"]
SOURCE = ""  # the git address of recjax; "" where the files are already here
CONFIG = "configs/quickstart.py"
WORKDIR = "runs/mesh"
OVERRIDES = ""  # e.g. "--config.pretrain.num_steps=1000"
DEVICES = 8

# %% [markdown]
# ## Install
# Only on Kaggle and Colab; elsewhere the notebook uses the environment that it runs in.

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
# Eight of kind "TPU v5 lite" are right; else choose the accelerator in the notebook's settings.

# %%
# !{sys.executable} -c "import jax; print(jax.devices())"

# %% [markdown]
# ## One log, two meshes
# What comes before training is done once; both runs start from a copy of it.

# %% tags=["train"]
BASE = f"{sys.executable} -m recjax.main --config {CONFIG} --config.model.vocab_multiple={DEVICES}"
MESHES = {
    "data": f"--config.parallel.mesh.data={DEVICES} --config.parallel.mesh.fsdp=1",
    "fsdp": f"--config.parallel.mesh.data=1 --config.parallel.mesh.fsdp={DEVICES}",
}
# !{BASE} --workdir {WORKDIR}/data {OVERRIDES} --stages prepare,features,expand

# %%
shutil.copytree(Path(WORKDIR, "data"), Path(WORKDIR, "fsdp"), dirs_exist_ok=True)
# !{BASE} --workdir {WORKDIR}/data {OVERRIDES} {MESHES["data"]} --stages pretrain

# %%
# !{BASE} --workdir {WORKDIR}/fsdp {OVERRIDES} {MESHES["fsdp"]} --stages pretrain

# %% [markdown]
# ## The same losses

# %% tags=["losses"]
import json

import matplotlib.pyplot as plt


def losses(mesh: str) -> dict[int, float]:
    """Mean training loss over the seeds, by step."""
    path = Path(WORKDIR, mesh, "pretrain/real/metrics.jsonl")
    found: dict[int, list[float]] = {}
    for row in map(json.loads, path.read_text().splitlines()):
        if "train/loss" in row:
            found.setdefault(row["step"], []).append(row["train/loss"])
    return {step: sum(values) / len(values) for step, values in found.items()}


curves = {mesh: losses(mesh) for mesh in MESHES}
apart = max(abs(curves["data"][step] - curves["fsdp"][step]) for step in curves["data"])
print(f"{len(curves['data'])} points, at most {apart:.1e} apart")
figure, axes = plt.subplots(figsize=(7, 3))
for mesh, width in (("data", 5), ("fsdp", 1.5)):  # one lies on the other
    steps, values = list(curves[mesh]), list(curves[mesh].values())
    axes.plot(steps, values, label=f"{mesh} = {DEVICES}", linewidth=width, alpha=1.8 / (width + 1))
axes.set_xlabel("step")
axes.set_ylabel("training loss")
axes.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What lies where
# Each parameter with its cut over the mesh.

# %% tags=["parameters_table"]
for mesh in MESHES:
    print(f"---- {mesh}")
    print(Path(WORKDIR, mesh, "pretrain/real/parameters.txt").read_text())
