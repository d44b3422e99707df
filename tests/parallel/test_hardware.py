import os
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from recjax import interrupts, main
from recjax.errors import UserError, WrongDevices
from recjax.parallel import hardware


def device(kind, platform="gpu", stats=None):
    return SimpleNamespace(device_kind=kind, platform=platform, memory_stats=lambda: stats)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
    ],
)
def test_peak_of_each_kind_is_found_and_adds_up(kind, peak):
    assert hardware.peak_flops([device(kind)] * 4) == 4 * peak


def test_peak_of_a_cpu_is_not_known():
    assert hardware.peak_flops(jax.devices()) is None


def test_memory_of_a_device_is_what_it_states():
    assert hardware.memory_bytes(device("x", stats={"bytes_limit": 7})) == 7
    assert hardware.memory_bytes(device("x")) is None


def test_cpu_devices_share_the_hosts_memory():
    one = hardware.memory_bytes(jax.devices()[0])
    assert one == hardware.host_memory_bytes() // 8


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_control_group_limits_the_host(tmp_path, name):
    everything = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert hardware.host_memory_bytes(tmp_path) == everything
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("max\n" if name == "memory.max" else f"{2**62}\n")
    assert hardware.host_memory_bytes(tmp_path) == everything
    path.write_text("1048576\n")
    assert hardware.host_memory_bytes(tmp_path) == 1 << 20


def test_peak_memory_is_the_devices_where_they_tell(monkeypatch):
    assert 0.01 < hardware.peak_memory_gib() == hardware.peak_resident_gib()
    told = [device("x", stats={"peak_bytes_in_use": size << 30}) for size in (2, 3)]
    monkeypatch.setattr(hardware.jax, "local_devices", lambda: told)
    assert hardware.peak_memory_gib() == 3


@pytest.mark.parametrize(("backend", "devices"), [("cpu", "8"), ("cpu", ""), ("", "8"), ("", "")])
def test_expected_devices_are_accepted(backend, devices):
    hardware.check_devices({"RECJAX_EXPECT_BACKEND": backend, "RECJAX_EXPECT_DEVICES": devices})


@pytest.mark.parametrize(
    ("environment", "error", "message"),
    [
        ({"RECJAX_EXPECT_BACKEND": "tpu"}, WrongDevices, "some devices of tpu.* 8 of cpu"),
        ({"RECJAX_EXPECT_DEVICES": "4"}, WrongDevices, "expected 4 devices of any kind"),
        ({"RECJAX_EXPECT_DEVICES": "many"}, UserError, "'many'; give a whole number"),
    ],
)
def test_other_devices_are_refused(environment, error, message):
    with pytest.raises(error, match=message):
        hardware.check_devices(environment)


def test_run_on_other_devices_ends_with_3(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(interrupts, "install", lambda: None)  # leaves the handlers of the session
    monkeypatch.setenv("RECJAX_EXPECT_BACKEND", "tpu")
    config = Path(__file__).parents[2] / "configs/smoke.py"
    assert main.main([f"--config={config}", f"--workdir={tmp_path}", "--stages=prepare"]) == 3
    assert "expected some devices of tpu" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
