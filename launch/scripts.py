"""What is run on a worker, as one line of shell: pure functions, golden-tested with the commands.

Everything of ours lies below `~/.recjax`: `code/TREE` (named by its hash; `current` points to one),
`venv`, `runs/NAME` (pid, log, exit code), `work/NAME` (a work directory on the disk), `gcs/BUCKET`.
"""

import shlex
from collections.abc import Mapping, Sequence

from launch.commands import REMOTE
from launch.flags import libtpu_flags
from launch.spec import Spec

ARCHIVE, SECRETS = "recjax-code.tgz", "recjax-secrets"  # where scp leaves them, below the home
_STOP_SECONDS = 120  # to save a checkpoint


def greet(tree: str) -> str:
    """Asks whether the code is there already, and chooses it if so."""
    there = f"test -d .recjax/code/{tree} && ln -sfn code/{tree} .recjax/current"
    return f"{there} && echo recjax: synced {tree} || echo recjax: wanted {tree}"


def unpack(tree: str, sha256: str) -> str:
    """Unpacks the code that scp brought, if it is what was sent; never over code that is there."""
    folder = f".recjax/code/{tree}"
    steps = (
        f"echo '{sha256}  {ARCHIVE}' | sha256sum --check --quiet",
        f"rm -rf {folder}.partial",
        f"mkdir -p {folder}.partial",
        f"tar -xzf {ARCHIVE} -C {folder}.partial",
        f"(test -d {folder} || mv {folder}.partial {folder})",
        f"rm -rf {folder}.partial {ARCHIVE}",
        f"ln -sfn code/{tree} .recjax/current",
        f"echo recjax: synced {tree}",
    )
    return " && ".join(steps)


def setup(spec: Spec) -> str:
    """Makes Python, the packages and the mount ready."""
    words = [spec.python, spec.bucket or "-", *spec.requirements]
    return f"bash {REMOTE}/bootstrap.sh {shlex.join(words)}"


def preflight(spec: Spec) -> str:
    """Says what the worker is."""
    return f".recjax/venv/bin/python {REMOTE}/preflight.py {shlex.quote(folder_of(spec))}"


def take_secrets(spec: Spec) -> str:
    """Moves the secrets that scp brought to where the run reads and removes them."""
    folder = f".recjax/runs/{spec.name}"
    return f"mkdir -p {folder} && chmod 600 {SECRETS} && mv {SECRETS} {folder}/secrets"


def start(spec: Spec, index: int, facts: Mapping[str, str], arguments: Sequence[str]) -> str:
    """Starts the run of one worker, detached.

    Args:
        spec: the launch.
        index: of the worker among all.
        facts: more environment: attempt, revision, number of workers.
        arguments: of recjax.main, without --workdir; gs://BUCKET/ of the mounted bucket becomes
            its folder.
    """
    environment = {**environment_of(spec), **facts, "RECJAX_WORKER": str(index), **spec.env}
    if index:
        environment.pop("RECJAX_AT_END", None)  # the first worker deletes
    pairs = [f"{name}={value}" for name, value in environment.items()]
    words = [word.replace(f"gs://{spec.bucket}/", mount_of(spec)) for word in arguments]
    program = ["python", "-m", "recjax.main", *words, "--workdir", folder_of(spec)]
    start = ["env", *pairs, "bash", f"{REMOTE}/run.sh", "start", f".recjax/runs/{spec.name}"]
    return shlex.join([*start, *program])


def status(spec: Spec) -> str:
    """Says what became of the run; a worker without our code has none."""
    line = f"bash {REMOTE}/status.sh .recjax/runs/{spec.name} {shlex.quote(folder_of(spec))}"
    return f"if test -e {REMOTE}/status.sh; then {line}; else echo recjax-worker none - - 0; fi"


def stop(spec: Spec, forget: bool = False) -> str:
    """Stops the run and frees the chips; with `forget` the host has no run afterwards."""
    line = f"bash {REMOTE}/stop.sh .recjax/runs/{spec.name} {_STOP_SECONDS}"
    line += " forget" if forget else ""
    return f"if test -e {REMOTE}/stop.sh; then {line}; else echo recjax: stopped -; fi"


def logs(spec: Spec, num_lines: int, follow: bool, tpu: bool) -> str:
    """Prints the end of the run's log, or of the TPU driver's."""
    files = "/tmp/tpu_logs/tpu_driver.*" if tpu else f".recjax/runs/{spec.name}/log"
    return f"tail -n {num_lines} {'-F ' if follow else ''}{files}"


def folder_of(spec: Spec) -> str:
    """Returns the work directory as a worker sees it; what runs there resolves `~/`."""
    if spec.on_storage:
        return spec.workdir.replace(f"gs://{spec.bucket}/", mount_of(spec))
    return spec.workdir or f"~/.recjax/work/{spec.name}"


def mount_of(spec: Spec) -> str:
    """Returns where a worker has the bucket of the work directory."""
    return f"~/.recjax/gcs/{spec.bucket}/"


def environment_of(spec: Spec) -> dict[str, str]:
    """Returns what a run on a TPU is told by its environment, see `recjax.distributed`."""
    flags = libtpu_flags(spec.flags_profile, spec.hardware.generation.name)
    return {
        "RECJAX_EXPECT_BACKEND": "tpu",
        "RECJAX_EXPECT_DEVICES": str(spec.hardware.chips * spec.slices),
        "RECJAX_HEARTBEAT_SECONDS": str(spec.heartbeat_seconds),
        "RECJAX_INIT_SECONDS": str(spec.init_seconds),
        **({"LIBTPU_INIT_ARGS": flags} if flags else {}),
    }
