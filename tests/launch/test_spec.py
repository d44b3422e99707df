"""Specs: what is refused, and with which words."""

from pathlib import Path

import pytest

from launch.errors import LaunchError
from launch.flags import PROFILES, libtpu_flags
from launch.hardware import find_accelerator, known_accelerators
from launch.spec import Spec, load_spec

FIELDS = {"name": "a", "accelerator": "v5e-8", "zones": ("z-a",)}


def test_accelerators_have_the_names_of_gcloud() -> None:
    assert find_accelerator("v5e-8").type == "v5litepod-8"
    assert find_accelerator("v5p-8").chips == 4 and find_accelerator("v6e-8").chips == 8
    assert len(known_accelerators()) == 28


def test_sizes_agree_with_the_compilers_table() -> None:
    from recjax.parallel.topologies import known_topologies

    ours = known_accelerators()
    for name, topology in known_topologies().items():
        if not name.startswith("tpu7x"):
            assert ours[name].chips == topology.num_devices


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accelerator": "v5e-7"}, "unknown accelerator 'v5e-7'; e.g. v5litepod-"),
        ({"accelerator": "tpu7x-8"}, "sold through GKE only"),
        ({"name": "A_b"}, "name: lower-case"),
        ({"zones": ()}, "zones: give at least one"),
        ({"capacity": "cheap"}, "capacity 'cheap'; known"),
        ({"mode": "direct", "slices": 2}, "several slices come as a queued resource"),
        ({"mode": "direct", "capacity": "flex"}, "flex comes as a queued resource"),
        ({"capacity": "flex", "max_hours": 200}, "flex ends after 7 days"),
        ({"workdir": "gs://"}, "workdir 'gs://'; give gs://BUCKET/FOLDER"),
        ({"workdir": "runs/x"}, "workdir 'runs/x'; give"),
        ({"flags_profile": "fast"}, "flags_profile 'fast' is unknown; known: none"),
        ({"flags_profile": "sparsecore_collectives"}, "is for v5p, v6e, not v5e"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        Spec(**{**FIELDS, **change})


def test_slices_name_their_nodes_and_cost_together() -> None:
    spec = Spec(**{**FIELDS, "accelerator": "v5p-8", "slices": 2})
    assert spec.nodes == ("a-0", "a-1")
    assert spec.dollars_per_hour == pytest.approx(2 * 4 * 4.20)


def write(folder: Path, fields: str) -> str:
    path = folder / "spec.py"
    path.write_text(f"from launch.spec import Spec\ndef get_spec():\n    return Spec({fields})\n")
    return str(path)


def test_fields_are_changed_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, "name='a', accelerator='v5e-8', zones=('z-a',)")
    changes = ["zones=x-a,y-b", "slices=2", "iap=true", "max_hours=1.5", "env=A=1,B=x=y"]
    spec = load_spec(path, changes)
    assert (spec.zones, spec.slices, spec.iap) == (("x-a", "y-b"), 2, True)
    assert (spec.max_hours, spec.env) == (1.5, {"A": "1", "B": "x=y"})


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        ("nmae='a'", [], "unexpected keyword argument 'nmae'; did you mean name"),
        ("name='a'", [], "missing 2 required"),
        ("name='a', accelerator='v5e-8', zones=('z',)", ["zone=b"], "did you mean zones"),
        ("name='a', accelerator='v5e-8', zones=('z',)", ["slices=two"], "slices is a"),
    ],
)
def test_unknown_and_wrong_fields_are_named(
    tmp_path: Path, fields: str, changes: list[str], message: str
) -> None:
    with pytest.raises(LaunchError, match=message):
        load_spec(write(tmp_path, fields), changes)


def test_file_that_is_not_there_or_no_spec(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="no such file"):
        load_spec("nothing.py")
    (tmp_path / "x.py").write_text("")
    with pytest.raises(LaunchError, match="no get_spec"):
        load_spec(str(tmp_path / "x.py"))


def test_flags_are_for_libtpu_and_for_known_generations() -> None:
    for name, (generations, flags) in PROFILES.items():
        assert all(flag.startswith(("--xla_tpu_", "--xla_enable_")) for flag in flags)
        assert libtpu_flags(name, generations[0]) == " ".join(flags)
