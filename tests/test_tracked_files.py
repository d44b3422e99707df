"""No file of the repository names a private folder or a package registry."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Written in pieces, so that this file does not find itself.
PRIVATE = re.compile(
    r"(?<![\w.}~])/(?:" + "work|root|home|Users|mnt" + r")/\w"
    r"|(?:extra-)?index" + r"-url|find-" + r"links"
    r"|https?://[^\s/\"']*(?:" + "pypi|pythonhosted|npmjs|artifactory|nexus" + ")"
)


def private_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if PRIVATE.search(line)]


def test_tracked_files_name_no_private_path_and_no_registry() -> None:
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        try:
            text = (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # binary, or deleted and not yet committed
        wrong += [f"{name}: {line}" for line in private_lines(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "cd /wo" + "rk/main",
        "open('/ro" + "ot/x')",
        "pip install --index" + "-url x",
        "https://files.python" + "hosted.org/x",
    ],
)
def test_private_lines_finds(line: str) -> None:
    assert private_lines(f"first\n{line}\nlast") == [line]


def test_private_lines_lets_pass() -> None:
    assert private_lines("runs/work/x\n$root/work/x\ngs://bucket/home/x\n/work/\n") == []
