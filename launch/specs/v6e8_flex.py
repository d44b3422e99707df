"""Eight v6e chips by flex-start: waits for capacity, and Google's side ends it after max_hours.

Command:  python -m launch watch --spec launch/specs/v6e8_flex.py --set workdir=gs://BUCKET/run \
              -- --config configs/sasrec.py:ml1m
Verified: never on a real TPU; its commands are checked by tests, see the README's checklist
"""

from launch.spec import Spec


def get_spec() -> Spec:
    """Returns the launch."""
    return Spec(
        name="recjax-v6e8",
        accelerator="v6e-8",
        zones=("us-east5-a",),
        capacity="flex",
        workdir="gs://BUCKET/recjax-v6e8",
        max_hours=3,
    )
