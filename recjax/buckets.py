"""A bucket of Cloud Storage as a folder: gcsfuse mounts it once a machine, under ~/.recjax/gcs.

Work directories are folders: tables, examples and checkpoints are written beside and renamed. What
a mount makes of that is gcsfuse's business; here is only how one comes to be. Called by `workdir`
and, for a worker of a launch, as a program: python -m recjax.buckets BUCKET.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recjax.errors import UserError

SCHEME = "gs://"
_SECONDS = 120  # a mount that takes longer will not come
# folders are renamed into place when they are complete: they may hold many files
_OPTIONS = ("--implicit-dirs", "--rename-dir-limit=100000")


def local_folder(url: str) -> Path:
    """Returns where a gs://BUCKET/FOLDER lies on this machine, mounted if it is not yet.

    Raises:
        UserError: when the address has no bucket, or gcsfuse is missing or fails.
    """
    bucket, _, folder = url.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise UserError(f"{url}: give {SCHEME}BUCKET/FOLDER")
    return mount(bucket) / folder


def mount(bucket: str) -> Path:
    """Returns the folder of a bucket; several processes of a machine share the mount.

    Raises:
        UserError: when gcsfuse is missing or fails, in its own words.
    """
    target = Path.home() / ".recjax" / "gcs" / bucket
    target.mkdir(parents=True, exist_ok=True)
    with _alone(target.parent / f".{bucket}.lock"):
        if not os.path.ismount(target):
            _call_gcsfuse(bucket, target)
    return target


def _call_gcsfuse(bucket: str, target: Path) -> None:
    if shutil.which("gcsfuse") is None:
        raise UserError(
            f"{SCHEME}{bucket} is mounted as a folder by gcsfuse, which is not on PATH; install "
            "it, or give a folder that all processes share"
        )
    command = ["gcsfuse", *_OPTIONS, bucket, str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"gcsfuse does not mount {SCHEME}{bucket} in {_SECONDS} s") from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())[-500:]
        raise UserError(f"gcsfuse cannot mount {SCHEME}{bucket}: {words}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    import fcntl  # not on Windows, where there is no gcsfuse either

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        print(mount(sys.argv[1]))
    except UserError as refusal:
        sys.exit(f"recjax: {refusal}")
