"""The code that is sent: the tracked files of a checkout as they are now, named by their hash."""

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchError


@dataclass(frozen=True)
class Code:
    """One state of the tracked files.

    Attributes:
        root: of the checkout.
        tree: git's name of their content; the same files, the same name.
        revision: the commit, with "-dirty" where files differ from it.
        untracked: how many files are not sent, since git does not know them.
    """

    root: Path
    tree: str
    revision: str
    untracked: int


def find_code(folder: Path) -> Code:
    """Looks at the checkout around a folder; changes nothing in it.

    Raises:
        LaunchError: when there is none, or no commit.
    """
    root = Path(_git(folder, "rev-parse", "--show-toplevel"))
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    # a commit of the tracked files as they are, of no branch; "" where all is committed
    changed = _git(root, "stash", "create")
    tree = _git(root, "rev-parse", f"{changed or 'HEAD'}^{{tree}}")
    untracked = _git(root, "ls-files", "--others", "--exclude-standard").splitlines()
    return Code(root, tree, head + ("-dirty" if changed else ""), len(untracked))


def write_archive(code: Code, target: Path) -> str:
    """Writes the files as a gzipped tar; returns its SHA-256."""
    words = ["archive", "--format=tar.gz", f"--output={target}", code.tree]
    _git(code.root, *words)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def _git(folder: Path, *words: str) -> str:
    command: Sequence[str] = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise LaunchError("git is not on PATH; it packs the code that is sent") from error
    if done.returncode:
        raise LaunchError(f"git {words[0]}: {done.stderr.strip()}; run from a clone of recjax")
    return done.stdout.strip()
