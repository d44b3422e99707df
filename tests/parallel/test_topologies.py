import pytest

from recjax.errors import UserError
from recjax.parallel.topologies import find_topology, known_topologies


@pytest.mark.parametrize(
    ("accelerator", "name", "num_devices"),
    [
        ("v5litepod-8", "v5e:2x4", 8),
        ("v5e-8", "v5e:2x4", 8),
        ("v5e-256", "v5e:16x16", 256),
        ("v6e-1", "v6e:1x1", 1),
        ("v5p-8", "v5p:2x2x1", 4),  # gcloud counts cores, two a chip
        ("v5p-128", "v5p:4x4x4", 64),
        ("V4-16", "v4:2x2x2", 8),
        ("tpu7x-8", "tpu7x:2x2x1", 8),
        ("2xv5e-8", "v5e:2x4", 16),
    ],
)
def test_accelerator_type_is_found(accelerator, name, num_devices):
    topology = find_topology(accelerator)
    assert (topology.name, topology.num_devices) == (name, num_devices)


def test_slices_are_told_to_the_compiler():
    topology = find_topology("2xv5e-8")
    assert topology.accelerator == "2xv5litepod-8" and topology.settings["num_slices"] == 2
    assert "num_slices" not in find_topology("v5e-8").settings


def test_shapes_have_as_many_chips_as_devices():
    for topology in known_topologies().values():
        chips = 1
        for side in topology.name.partition(":")[2].split("x"):
            chips *= int(side)
        per_chip = 2 if topology.name.startswith("tpu7x") else 1
        assert chips * per_chip == topology.num_devices


@pytest.mark.parametrize(
    "accelerator", ["v5e-7", "v5litepod", "h100-8", "", "v5e:2x4", "1xv5e-8", "2xv5e-7"]
)
def test_unknown_type_is_refused_with_known_ones(accelerator):
    with pytest.raises(UserError, match=r"unknown accelerator type; e\.g\. \w+-\d"):
        find_topology(accelerator)
