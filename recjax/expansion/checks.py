"""The checks of the report card: each number beside what chance alone does, with a grade.

Not here: the numbers themselves (`fidelity`, `copies`) and the card (`report_card`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from recjax.expansion import fidelity
from recjax.expansion.copies import CopyCounts
from recjax.expansion.discriminator import ToldApart
from recjax.expansion.gate.reference import RealReference
from recjax.expansion.privacy import Privacy
from recjax.expansion.statistics import LogStatistics

GRADES = ("good", "fair", "poor")


@dataclass(frozen=True)
class Check:
    """One judged number.

    Attributes:
        name: what was measured.
        value: real against synthetic.
        chance: the same between two halves of the real users; None where it has no meaning.
        grade: "good", "fair" or "poor".
        fatal: a poor grade here spoils the whole card.
        reason: one sentence for a person.
    """

    name: str
    value: float
    chance: float | None
    grade: str
    fatal: bool
    reason: str


def compare(
    left: LogStatistics,
    right: LogStatistics,
    drawn: LogStatistics,
    reference: RealReference,
    copies: CopyCounts,
    privacy: Privacy | None,
    told: ToldApart | None,
) -> list[Check]:
    """Returns all checks of a synthetic log against the two halves of the real one."""
    if not drawn.users or privacy is None or told is None:
        return [Check("users", 0.0, None, "poor", True, "no synthetic user was kept")]
    return [
        *_compare_shapes(left, right, drawn),
        *_compare_items(left, right, drawn),
        *_compare_order(left, right, drawn),
        _check_discriminator(told),
        *_check_copies(drawn, copies, reference.twin_share),
        *_check_privacy(privacy),
        _check_foreign(drawn, reference),
    ]


def _compare_shapes(left: LogStatistics, right: LogStatistics, drawn: LogStatistics) -> list[Check]:
    real, checks = left + right, []
    for name, attribute, distance, limits in (
        ("lengths", "lengths", fidelity.compute_total_variation, (0.1, 0.25)),
        ("actions", "actions", fidelity.compute_total_variation, (0.05, 0.15)),
        ("gaps", "gaps", fidelity.compute_total_variation, (0.1, 0.25)),
        ("action transitions", "action_pairs", fidelity.compute_jensen_shannon, (0.02, 0.1)),
        ("category transitions", "category_pairs", fidelity.compute_jensen_shannon, (0.03, 0.1)),
    ):
        value = distance(getattr(real, attribute), getattr(drawn, attribute))
        chance = distance(getattr(left, attribute), getattr(right, attribute))
        checks.append(_limit(name, value, chance, limits, "differ by {value:.3f}"))
    return checks


def _compare_items(left: LogStatistics, right: LogStatistics, drawn: LogStatistics) -> list[Check]:
    real = left + right
    bands = fidelity.find_popularity_bands(real.items)
    head = bands == 0
    heads = [fidelity.to_shares(log.items)[head].sum() for log in (real, drawn)]
    repeats = [fidelity.compute_repeat_rate(log) for log in (real, drawn, left, right)]
    coverage = fidelity.compute_coverage(real.items, drawn.items)
    own_coverage = fidelity.compute_coverage(right.items, left.items)
    missing, own_missing = max(0.0, 1 - coverage), max(0.0, 1 - own_coverage)
    return [
        _limit(
            "popularity",
            fidelity.compute_popularity_shift(real.items, drawn.items, bands),
            fidelity.compute_popularity_shift(left.items, right.items, bands),
            (0.06, 0.15),
            f"{{value:.1%}} of the events moved between head and tail; the top {head.sum()} "
            f"items have {heads[1]:.1%}, really {heads[0]:.1%}",
        ),
        _limit(
            "coverage",
            missing,
            own_missing,
            (0.1, 0.4),
            "{value:.1%} of the expected items missing",
        ),
        _limit(
            "repeats",
            abs(repeats[1] - repeats[0]),
            abs(repeats[2] - repeats[3]),
            (0.05, 0.15),
            f"{repeats[1]:.1%} of the events repeat an item, really {repeats[0]:.1%}",
        ),
    ]


def _compare_order(left: LogStatistics, right: LogStatistics, drawn: LogStatistics) -> list[Check]:
    """Order signals are judged as lost shares of the real signal, where there is one."""
    checks = []
    for name, real, synthetic in (
        (
            "order of categories",
            fidelity.compute_category_order(left + right),
            fidelity.compute_category_order(drawn),
        ),
        (
            "order of items",
            fidelity.compute_pair_order(right, left),
            fidelity.compute_pair_order(drawn, left),
        ),
    ):
        if real < 0.01:
            reason = f"{name}: the real log shows hardly any, not judged"
            checks.append(Check(name, 0.0, None, "good", False, reason))
        else:
            lost = max(0.0, 1 - synthetic / real)
            checks.append(_limit(name, lost, 0.0, (0.3, 0.7), "{value:.0%} of its signal lost"))
    return checks


def _check_discriminator(told: ToldApart) -> Check:
    if not len(told.real) or not len(told.synthetic):
        reason = "discriminator: too few users to fit one and judge others, not judged"
        return Check("discriminator", 0.5, None, "good", False, reason)
    auc = fidelity.compute_auc(told.real, told.synthetic)
    text = "a classifier that has not seen them tells draws from real users with AUC {value:.3f}"
    chance = fidelity.compute_chance_auc(len(told.real), len(told.synthetic))
    return _limit("discriminator", auc, chance, (0.15, 0.3), text)


def _check_copies(drawn: LogStatistics, copies: CopyCounts, twins: float) -> list[Check]:
    """Copies are judged beyond those that real users are of each other, short ones above all."""
    users = max(drawn.users, 1)
    return [
        _limit(
            "copies of real users",
            (copies.of_real + copies.near_real) / users,
            twins,
            (0.005, 0.02),
            "{value:.1%} are copies or near copies of a real user",
            fatal=True,
        ),
        _limit(
            "reordered real users",
            copies.reordered_real / users,
            None,
            (0.02, 0.1),
            "{value:.1%} hold exactly the items of a real user in another order",
        ),
        _limit(
            "copies of draws",
            (copies.of_draw + copies.near_draw) / users,
            twins,
            (0.02, 0.1),
            "{value:.1%} are copies or near copies of another draw",
            fatal=True,
        ),
    ]


def _check_privacy(privacy: Privacy) -> list[Check]:
    """Nearness beyond that of real users to each other, and an attack on who was trained on."""
    share = privacy.nearer_share
    text = "{value:.1%} are nearer to a real user than 95 % of the real users are to another"
    nearest = _limit("nearest real users", share, 0.05, (0.05, 0.2), text)
    auc, unseen = privacy.membership_auc, len(privacy.held_out)
    if auc is None:
        reason = "membership: every user was drawn from, not judged"
        return [nearest, Check("membership", 0.5, None, "good", False, reason)]
    chance = fidelity.compute_chance_auc(len(privacy.members), unseen)
    text = (
        f"by the nearest draw, users of the fit are told from {unseen} held-out ones "
        "with AUC {value:.3f}"
    )
    return [nearest, _limit("membership", auc, chance, (0.03, 0.1), text)]


def _check_foreign(drawn: LogStatistics, reference: RealReference) -> Check:
    foreign = drawn.foreign + int(drawn.items[~reference.allowed_items].sum())
    grade = "poor" if foreign else "good"
    reason = f"ids outside the training part: {foreign} events"
    return Check("foreign ids", float(foreign), None, grade, True, reason)


def _limit(
    name: str,
    value: float,
    chance: float | None,
    limits: tuple[float, float],
    reason: str,
    fatal: bool = False,
) -> Check:
    """Returns a check graded by how far the value lies above what chance does."""
    excess = value - (chance or 0.0)
    grade = GRADES[int(excess > limits[0]) + int(excess > limits[1])]
    text = f"{name}: {reason.format(value=value)}"
    if chance:
        text += f" (chance alone: {chance:.3f})"
    return Check(
        name, round(value, 6), None if chance is None else round(chance, 6), grade, fatal, text
    )


def grade_checks(checks: Sequence[Check]) -> tuple[str, list[str]]:
    """Returns the grade, A to D, and the reasons of every check that is not good, worst first.

    A: at most one fair. B: nothing poor. C: one poor. D: two or more poor, or a fatal one.
    """
    poor = [check for check in checks if check.grade == "poor"]
    fair = [check for check in checks if check.grade == "fair"]
    if len(poor) > 1 or any(check.fatal for check in poor):
        grade = "D"
    elif poor:
        grade = "C"
    else:
        grade = "B" if len(fair) > 1 else "A"
    return grade, [f"{check.grade}: {check.reason}" for check in poor + fair]
