"""What the names of arms mean, and which arms are compared with which.

Called by `results`, `verdicts` and the report; an arm that is not named here is a treatment, that
is, a model trained with expansion.
"""

from collections.abc import Iterable

REAL = "real"
FLOORS = ("floor", "popularity", "item_knn", "ease")  # "floor" is the counting (or pair) floor
CONTROLS = (REAL, "repeated", "sliding_window", "fused")  # what expansion has to beat
CEILINGS = ("oracle", "ceiling")  # true process scoring; training on draws of the true process
SANITY = ("real_again",)  # the real arm with other seeds: an A/A pair

TITLES = {
    "floor": "counting floor",
    "popularity": "popularity",
    "item_knn": "item-kNN",
    "ease": "EASE",
    REAL: "real only",
    "repeated": "real, repeated",
    "sliding_window": "sliding window",
    "fused": "real, fused with counts",
    "real_again": "real only, other seeds (A/A)",
    "oracle": "oracle (true process)",
    "ceiling": "ceiling (true draws)",
}


def title(arm: str, task: str = "next_item") -> str:
    """Returns the name of an arm as a reader should see it.

    Example:
        >>> title("floor"), title("floor", "click")
        ('counting floor', 'pair floor')
    """
    if arm == "floor" and task == "click":
        return "pair floor"
    return TITLES.get(arm, arm.replace("_", " "))


def ordered(arms: Iterable[str]) -> list[str]:
    """Sorts arms as a reader wants them: floors, real, treatments, other controls, ceilings.

    Example:
        >>> ordered(["expanded", "oracle", "real", "repeated", "floor"])
        ['floor', 'real', 'expanded', 'repeated', 'oracle']
    """
    last = (*CONTROLS[1:], *SANITY, *CEILINGS)
    first = (*FLOORS, REAL)
    groups = (first, last)

    def place(arm: str) -> tuple[int, int]:
        for number, group in zip((0, 2), groups, strict=True):
            if arm in group:
                return number, group.index(arm)
        return 1, 0

    return sorted(arms, key=place)


def treatments(arms: Iterable[str]) -> list[str]:
    """Lists the arms that use expansion, in the order given.

    Example:
        >>> treatments(["floor", "real", "expanded"])
        ['expanded']
    """
    return [arm for arm in arms if arm not in (*FLOORS, *CONTROLS, *CEILINGS, *SANITY)]


def comparisons(arms: Iterable[str]) -> list[tuple[str, str]]:
    """Lists (treated, control) pairs: treatments against every control, models against the floor.

    Example:
        >>> comparisons(["floor", "real", "expanded"])
        [('expanded', 'real'), ('expanded', 'floor'), ('real', 'floor')]
    """
    arms = list(arms)
    pairs = [(arm, control) for arm in treatments(arms) for control in CONTROLS if control in arms]
    pairs += [(arm, REAL) for arm in SANITY if arm in arms and REAL in arms]
    models = [*treatments(arms), *(arm for arm in CONTROLS if arm in arms)]
    return pairs + [(arm, "floor") for arm in models if "floor" in arms]
