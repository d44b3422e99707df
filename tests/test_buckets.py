"""Work directories in a bucket: a stand-in for gcsfuse links where the real one mounts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recjax import buckets
from recjax.errors import UserError
from recjax.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]
GCSFUSE = """#!/usr/bin/env bash
echo "$*" >>{folder}/asked
if [[ -e {folder}/refuses ]]; then echo "bucket is not yours" >&2; exit 1; fi
mkdir -p {folder}/storage/"$3" && rmdir "$4" && ln -s {folder}/storage/"$3" "$4"
"""


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    tool = tmp_path / "bin/gcsfuse"
    tool.parent.mkdir()
    tool.write_text(GCSFUSE.format(folder=tmp_path))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).is_symlink())
    return tmp_path


def asked(machine: Path) -> list[str]:
    path = machine / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_work_directory_in_a_bucket_is_mounted_once(machine):
    for _ in range(2):
        workdir = Workdir.open("gs://shop-bucket/runs/a")
        (workdir / "here").write_text("")
    assert (machine / "storage/shop-bucket/runs/a/here").exists()
    folder = machine / "home/.recjax/gcs/shop-bucket"
    words = f"--implicit-dirs --rename-dir-limit=100000 shop-bucket {folder}"
    assert asked(machine) == [words]


def test_worker_of_a_launch_mounts_by_the_same_program(machine):
    for _ in range(2):
        words = [sys.executable, "-m", "recjax.buckets", "shop"]
        done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True)
        (machine / "refuses").touch()
    assert done.returncode == 1 and "cannot mount gs://shop: bucket is not yours" in done.stderr
    assert len(asked(machine)) == 2


def test_what_keeps_a_bucket_away_is_told(machine, monkeypatch):
    (machine / "refuses").touch()
    with pytest.raises(UserError, match="cannot mount gs://shop: bucket is not yours"):
        Workdir.open("gs://shop/run")
    monkeypatch.setattr(buckets, "_SECONDS", 0)
    with pytest.raises(UserError, match="does not mount gs://shop in 0 s"):
        Workdir.open("gs://shop/run")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="gcsfuse, which is not on PATH; install it, or give"):
        Workdir.open("gs://shop/run")
