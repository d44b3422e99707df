"""Sixteen v5e chips on four hosts: the smallest pod, one process a host.

Command:  python -m launch watch --spec launch/specs/v5e16_pod.py --set workdir=gs://BUCKET/run \
              -- --config configs/sasrec.py:ml1m
Verified: never on a real TPU; its commands are checked by tests, see the README's checklist
"""

from launch.spec import Spec


def get_spec() -> Spec:
    """Returns the launch."""
    return Spec(
        name="recjax-v5e16",
        accelerator="v5litepod-16",
        zones=("us-west4-a",),
        capacity="spot",
        workdir="gs://BUCKET/recjax-v5e16",
        flags_profile="data_parallel_overlap",
        max_hours=12,
    )
