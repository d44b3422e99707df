"""Two v5p slices of four chips that train as one, joined by the data-centre network.

Command:  python -m launch watch --spec launch/specs/v5p2slice.py --set workdir=gs://BUCKET/run \
              -- --config configs/sasrec.py:ml1m
Verified: never on a real TPU; its commands are checked by tests, see the README's checklist
"""

from launch.spec import Spec


def get_spec() -> Spec:
    """Returns the launch."""
    return Spec(
        name="recjax-v5p",
        accelerator="v5p-8",
        zones=("us-east5-a",),
        capacity="reserved",
        slices=2,
        workdir="gs://BUCKET/recjax-v5p",
        max_hours=24,
    )
