"""Hands argument lists to gcloud and says what its answer means.

gcloud ends with 1 whatever went wrong, so the class of an error comes from its words. Classes that
are not certain are `UNKNOWN`: whoever creates things must wait on that, never go on.
"""

import re
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from launch.errors import LaunchError

TIMEOUT_SECONDS = 900.0
_MOST_AT_ONCE = 32


class Answer(Enum):
    """What gcloud's answer means."""

    OK = "ok"
    EXISTS = "it is there already"
    ABSENT = "it is not there"
    NO_CAPACITY = "the zone has no capacity now"
    QUOTA = "the project's quota does not allow it"
    DENIED = "the account lacks the right, or an API is off"
    SIGNED_OUT = "nobody is signed in: gcloud auth login"
    NO_PROJECT = "no project: gcloud config set project NAME, or --set project=NAME"
    INVALID = "gcloud or the service refuses the request"
    TRANSIENT = "the service or the network failed, try again"
    UNKNOWN = "the answer is not understood"


# In this order: the words of quota errors and of stock-outs share a code.
_WORDS = (
    (Answer.EXISTS, r"ALREADY_EXISTS"),
    (Answer.ABSENT, r"NOT_FOUND"),
    (Answer.SIGNED_OUT, r"UNAUTHENTICATED|do not currently have an active account|reauth"),
    (Answer.NO_PROJECT, r"(?:attribute|property) \[project\]"),
    (Answer.DENIED, r"PERMISSION_DENIED|SERVICE_DISABLED|status': '?403"),
    (Answer.QUOTA, r"[Qq]uota"),
    (Answer.NO_CAPACITY, r"no more capacity|\"code\": 8\b|stockout|STOCKOUT"),
    (Answer.TRANSIENT, r"status': '?(?:429|5\d\d)|UNAVAILABLE|INTERNAL\b|DEADLINE_EXCEEDED"),
    (Answer.TRANSIENT, r"ConnectionError|Connection refused|timed out|Unable to find the server"),
    (Answer.INVALID, r"INVALID_ARGUMENT|FAILED_PRECONDITION|unrecognized arguments|argument --"),
)
# trying again is no use
STOP = (Answer.QUOTA, Answer.DENIED, Answer.SIGNED_OUT, Answer.NO_PROJECT, Answer.INVALID)


@dataclass(frozen=True)
class Result:
    """What a command gave."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def answer(self) -> Answer:
        """What it means."""
        return Answer.OK if self.code == 0 else classify(self.out + self.err)

    @property
    def reason(self) -> str:
        """What gcloud said, on one line, at most 600 characters."""
        return " ".join((self.err or self.out).split())[-600:]


def classify(text: str) -> Answer:
    """Returns the class of an error by gcloud's words."""
    for answer, words in _WORDS:
        if re.search(words, text):
            return answer
    return Answer.UNKNOWN


class Runner:
    """Runs commands; the only place that starts gcloud."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout_seconds

    def run(self, command: Sequence[str]) -> Result:
        """Runs one command to its end.

        Raises:
            LaunchError: when gcloud is not installed.
        """
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._timeout,
            )
        except FileNotFoundError as error:
            raise LaunchError(
                "gcloud is not on PATH; install the Google Cloud CLI and run: gcloud auth login"
            ) from error
        except subprocess.TimeoutExpired:
            return Result(tuple(command), 124, "", f"timed out after {self._timeout:.0f} s")
        return Result(tuple(command), done.returncode, done.stdout, done.stderr)

    def run_all(self, commands: Sequence[Sequence[str]]) -> list[Result]:
        """Runs commands at once; results in their order."""
        with ThreadPoolExecutor(max(1, min(len(commands), _MOST_AT_ONCE))) as pool:
            return list(pool.map(self.run, commands))


def check(result: Result) -> Result:
    """Lets a good answer pass.

    Raises:
        LaunchError: with the meaning and gcloud's own words.
    """
    if result.answer is not Answer.OK:
        line = shlex.join(result.command)[:300]
        raise LaunchError(f"{result.answer.value}: {result.reason}\n  after: {line}")
    return result
