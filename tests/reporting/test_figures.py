"""Colours of arms: their own where they have one, and no two alike while there are enough."""

import pytest

from recjax.reporting.figures import arm_colour


@pytest.mark.parametrize(
    "arms",
    [
        ["floor", "single", "shared_bottom", "mmoe", "ple", "esmm", "aitm"],
        ["floor", "lr", "fm", "dnn", "dcnv2", "finalmlp"],
        ["floor", "real", "expanded", "repeated", "a", "b"],
    ],
)
def test_arms_of_a_report_differ_in_colour(arms: list[str]) -> None:
    colours = [arm_colour(arm, arms) for arm in arms]
    assert len(set(colours)) == len(arms)
    assert colours[0] == arm_colour("floor", ["floor"])


def test_more_arms_than_colours_share_what_is_left() -> None:
    arms = ["floor", *map(str, range(20))]
    colours = [arm_colour(arm, arms) for arm in arms]
    assert len(set(colours)) == 8 and colours.count(colours[0]) == 1
