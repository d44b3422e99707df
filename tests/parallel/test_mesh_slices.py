"""A mesh over several TPU slices: what lies in one slice stays together."""

from dataclasses import dataclass

import pytest

from recjax.parallel import make_mesh


@dataclass(frozen=True)
class Chip:
    """What a mesh asks of a TPU device."""

    id: int
    slice_index: int
    coords: tuple[int, int, int]
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    core_on_chip: int = 0
    process_index: int = 0


def chips(slices: int) -> list[Chip]:
    places = [(x, y, 0) for y in range(4) for x in range(2)]
    return [Chip(8 * s + i, s, place) for s in range(slices) for i, place in enumerate(places)]


@pytest.mark.parametrize(
    ("axes", "axis"),
    [({"data": -1}, 0), ({"data": 2, "fsdp": 8}, 0), ({"data": 1, "fsdp": 8, "tensor": 2}, 1)],
)
def test_first_axis_that_can_be_is_cut_over_the_slices(axes, axis):
    devices = make_mesh(axes, chips(2)).devices
    along = devices.swapaxes(0, axis)
    half = len(along) // 2
    halves = [along[:half].ravel().tolist(), along[half:].ravel().tolist()]
    assert [{chip.slice_index for chip in half} for half in halves] == [{0}, {1}]
    assert sorted(chip.id for half in halves for chip in half) == list(range(16))


def test_mesh_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="'fsdp': 16, 'tensor': 1}: no axis can be cut over 6"):
        make_mesh({"data": 3, "fsdp": 16}, chips(6))
