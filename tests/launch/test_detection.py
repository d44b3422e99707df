"""Without any argument: what a TPU pod, GKE, two slices and SLURM say of themselves."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("processes"),  # the port of the coordinator is fixed
]


@contextmanager
def metadata_server(index: int) -> Iterator[str]:
    """What a TPU VM asks about itself; yields its address."""
    values = {
        "agent-worker-number": str(index),
        "worker-network-endpoints": "127.0.0.1,127.0.0.1",
        "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-8'",
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            value = values.get(self.path.rpartition("/")[2])
            self.send_response(200 if value else 404)
            self.end_headers()
            self.wfile.write((value or "").encode())

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def gke(index: int) -> dict[str, str]:
    alone = dict.fromkeys(
        ("MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID", "MEGASCALE_COORDINATOR_ADDRESS"), ""
    )
    hosts = {"TPU_WORKER_ID": str(index), "TPU_WORKER_HOSTNAMES": "localhost,localhost"}
    return {"JAX_FORCE_TPU_INIT": "1", **hosts, **alone}


def slices(index: int) -> dict[str, str]:
    return {
        "JAX_FORCE_TPU_INIT": "1",
        "TPU_WORKER_ID": "0",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": str(index),
        "MEGASCALE_COORDINATOR_ADDRESS": "localhost:8080",
    }


def slurm(index: int) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": "0",
    }


def join(folder: Path, environments: list[dict[str, str]]) -> list[str]:
    started = []
    for index, mine in enumerate(environments):
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RECJAX_")},
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            "PYTHONPATH": str(ROOT),
            **mine,
        }
        words = [sys.executable, "tests/launch/joining_process.py", str(folder / str(index))]
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        started.append(process)
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()[-3000:]
    return [(folder / str(index)).read_text() for index in range(len(environments))]


JOINED = ["0 of 2: (4, True)", "1 of 2: (4, True)"]


@pytest.mark.parametrize("environment", [gke, slices, slurm])
def test_processes_find_each_other(tmp_path: Path, environment) -> None:
    assert join(tmp_path, [environment(0), environment(1)]) == JOINED


def test_hosts_of_a_pod_find_each_other(tmp_path: Path) -> None:
    with metadata_server(0) as first, metadata_server(1) as second:
        forced = {"JAX_FORCE_TPU_INIT": "1"}
        environments = [{**forced, "GCE_METADATA_IP": address} for address in (first, second)]
        assert join(tmp_path, environments) == JOINED


def test_in_a_notebook_service_nobody_is_looked_for(tmp_path: Path) -> None:
    (said,) = join(tmp_path, [{**gke(0), "COLAB_RELEASE_TAG": "r"}])
    assert said == "0 of 1: (2, False)"
