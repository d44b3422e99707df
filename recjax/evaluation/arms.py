"""What the names of arms mean, and which arms are compared with which.

Called by `results`, `verdicts` and the report; an arm that is not named here is a treatment, that
is, a model trained with expansion.
"""

from collections.abc import Iterable

REAL = "real"
HEADS_TASK = "row_click"  # how tasks begin whose arms are heads, not ways to expand
FLOORS = ("floor", "popularity", "item_knn", "ease")  # "floor" is the counting (or pair) floor
FUSED = "fused"  # the real-only model fused with the generator's scores
CONTROLS = (REAL, "repeated", "sliding_window", FUSED)  # what expansion has to beat
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
    FUSED: "real, fused with the generator",
    "real_again": "real only, other seeds (A/A)",
    "oracle": "oracle (true process)",
    "ceiling": "ceiling (true draws)",
    "single": "single task",
}


def title(arm: str, task: str = "next_item") -> str:
    """Returns the name of an arm as a reader should see it.

    Example:
        >>> title("floor"), title("floor", "click")
        ('counting floor', 'pair floor')
    """
    if arm == "floor" and (task == "click" or compares_heads(task)):
        return "pair floor"
    return TITLES.get(arm, arm.replace("_", " "))


def compares_heads(task: str) -> bool:
    """Tells whether a task's arms are heads: row_click, or row_click_OUTCOME.

    Example:
        >>> compares_heads("row_click_bought"), compares_heads("click")
        (True, False)
    """
    return task.startswith(HEADS_TASK)


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
    """Lists the arms that train with expansion, in the order given; not what is fused of them.

    Example:
        >>> treatments(["floor", "real", "expanded", "expanded_fused"])
        ['expanded']
    """
    arms = list(arms)
    fused = [fused_name(arm) for arm in arms]
    return [arm for arm in arms if arm not in (*FLOORS, *CONTROLS, *CEILINGS, *SANITY, *fused)]


def fused_name(arm: str) -> str:
    """Returns the name of an arm's model fused with the generator's scores.

    Example:
        >>> fused_name("real"), fused_name("expanded")
        ('fused', 'expanded_fused')
    """
    return FUSED if arm == REAL else f"{arm}_{FUSED}"


def fused_treatments(arms: Iterable[str]) -> list[str]:
    """Lists the treatments' fused arms; their control is the fused real-only model.

    Example:
        >>> fused_treatments(["fused", "expanded", "expanded_fused", "other"])
        ['expanded_fused']
    """
    arms = list(arms)
    return [fused_name(arm) for arm in treatments(arms) if fused_name(arm) in arms]


def models(arms: Iterable[str]) -> list[str]:
    """Lists the arms that are trained: treatments, fused ones, controls.

    Example:
        >>> models(["floor", "real", "fused", "expanded", "expanded_fused"])
        ['expanded', 'expanded_fused', 'real', 'fused']
    """
    arms = list(arms)
    controls = [arm for arm in CONTROLS if arm in arms]
    return [*treatments(arms), *fused_treatments(arms), *controls]


def comparisons(arms: Iterable[str]) -> list[tuple[str, str]]:
    """Lists (treated, control) pairs: treatments against every control, models against the floor.

    A fused treatment stands against the fused real-only model.

    Example:
        >>> comparisons(["floor", "real", "expanded"])
        [('expanded', 'real'), ('expanded', 'floor'), ('real', 'floor')]
    """
    arms = list(arms)
    pairs = [(arm, control) for arm in treatments(arms) for control in CONTROLS if control in arms]
    pairs += [(arm, FUSED) for arm in fused_treatments(arms) if FUSED in arms]
    pairs += [(arm, REAL) for arm in SANITY if arm in arms and REAL in arms]
    return pairs + [(arm, "floor") for arm in models(arms) if "floor" in arms]
