"""A TPU VM that somebody made already; it is never created or deleted from here.

Command:  python -m launch run --spec launch/specs/existing.py --set name=NAME --set zones=ZONE \
              --set accelerator=TYPE -- --config configs/quickstart.py
Verified: never on a real TPU; its commands are checked by tests, see the README's checklist
"""

from launch.spec import Spec


def get_spec() -> Spec:
    """Returns the launch."""
    return Spec(
        name="my-tpu",
        accelerator="v5litepod-8",
        zones=("us-west4-a",),
        mode="existing",
        on_done="keep",
    )
