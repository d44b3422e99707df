"""One v5e chip, on demand: the smallest TPU, for a first look.

Command:  python -m launch watch --spec launch/specs/v5e1.py -- --config configs/quickstart.py
Verified: never on a real TPU; its commands are checked by tests, see the README's checklist
"""

from launch.spec import Spec


def get_spec() -> Spec:
    """Returns the launch."""
    return Spec(name="recjax-v5e1", accelerator="v5litepod-1", zones=("us-west4-a",), max_hours=2)
