"""Eight v5e chips of one host at the spot price; taken away at any time, `watch` brings it back.

Command:  python -m launch watch --spec launch/specs/v5e8_spot.py --set workdir=gs://BUCKET/run \
              -- --config configs/sasrec.py:ml1m
Verified: never on a real TPU; its commands are checked by tests, see the README's checklist
"""

from launch.spec import Spec


def get_spec() -> Spec:
    """Returns the launch."""
    return Spec(
        name="recjax-v5e8",
        accelerator="v5litepod-8",
        zones=("us-west4-a", "us-central1-a"),
        capacity="spot",
        workdir="gs://BUCKET/recjax-v5e8",
        max_hours=12,
    )
