"""What a report is made from, as plain dicts read from the work directory.

Called by the report stage, which fills it. Every field but the title may be None or empty; its
section is then left out. Shapes are those of the files named below.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class ReportContext:
    """Material beside results.json.

    Attributes:
        title: heading, such as the config's name.
        command: how the run was started.
        created: date and time, as text.
        config: the resolved config, nested.
        environment: {name: value} such as versions, git revision, devices.
        profile: prepared/profile.json.
        report_cards: expansion/report_card.json: arm -> {"grade", "reasons", "real", "synthetic",
            "checks", "plots", "gate": {seed: {strategy: counts}}}.
        curves: rows of all metrics.jsonl: {"stage", "arm", "seed", "step", name: value}.
        data_curve: evaluation/data_curve.json: {"model", "metric", "rows": [{"share", "users",
            METRIC: value}]}.
        example_users: evaluation/example_users.json: [{"user", "history": [title], "target",
            "recommendations": {arm: [title]}}].
        state_cards: expansion/state_cards.json, from `hmm.describe_states`.
        notes: sentences for the section of limits, beside those the report finds itself.
    """

    title: str
    command: str | None = None
    created: str | None = None
    config: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    profile: Mapping[str, Any] | None = None
    report_cards: Mapping[str, Mapping[str, Any]] | None = None
    curves: Sequence[Mapping[str, Any]] | None = None
    data_curve: Mapping[str, Any] | None = None
    example_users: Sequence[Mapping[str, Any]] | None = None
    state_cards: Sequence[Mapping[str, Any]] | None = None
    notes: Sequence[str] = ()
