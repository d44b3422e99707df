"""Command line: python -m launch VERB --spec launch/specs/X.py -- <arguments of recjax.main>."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launch import capacity, plan, reports, watch, workers
from launch.errors import LaunchError
from launch.gcloud import Runner
from launch.history import History
from launch.launcher import Launcher
from launch.local import run_local
from launch.spec import Spec, load_spec

_VERBS = {
    "plan": "what it is, costs and would run; runs nothing",
    "doctor": "are gcloud, account, project, APIs, bucket and zones in order?",
    "up": "create the TPU, if it is not there, and wait until all workers answer",
    "sync": "bring the tracked files of this checkout to all workers",
    "setup": "make Python, packages and the mounted bucket ready on all workers",
    "run": "sync, setup, and start recjax.main on all workers, detached",
    "status": "TPU, runs, progress, money so far, after one of the words below",
    "logs": "of --worker N (0), or of --all; --follow, --tpu",
    "watch": "all of it: create, run, and after a preemption re-create and resume, until done",
    "stop": "stop the run (it saves) and free the chips",
    "down": "delete the TPU",
    "reap": "delete every TPU of ours whose time is over, in the spec's zones",
    "local": "the same run as N processes x M CPU devices on this machine; needs no spec",
    "aot": "compile shipped configs for TPU types with the real TPU compiler; needs no spec",
}
_EPILOG = (
    "verbs:\n"
    + "\n".join(f"  {verb:8}{text}" for verb, text in _VERBS.items())
    + "\n\nwords of status:\n"
    "  ABSENT WAITING STARTING RUNNING STALLED STOPPING DONE FAILED PREEMPTED LOST, and\n"
    "  UNKNOWN where gcloud's answer is not certain\n\n"
    "exit codes: 0 done, 1 the run or a worker failed, 2 bad input or rights,\n"
    "            4 no capacity or a limit\n\nexample:\n"
    "  python -m launch watch --spec launch/specs/v5e8_spot.py --set workdir=gs://BUCKET/run \\\n"
    "      -- --config configs/sasrec.py:ml1m"
)
_WITHOUT_ARGUMENTS = ("doctor", "up", "sync", "setup", "status", "logs", "stop", "down", "reap")


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit code."""
    mine, theirs = _split(list(argv))
    options = _parser().parse_args(mine)
    try:
        if options.verb == "local":
            return run_local(options.processes, options.devices, theirs)
        if options.verb == "aot":
            return _aot(options)
        return _with_spec(options, theirs)
    except LaunchError as error:
        print(f"launch: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("launch: interrupted here; what runs on the TPU goes on", file=sys.stderr)
        return 130


def _aot(options: argparse.Namespace) -> int:
    from launch.aot import run_aot, show_table  # imports recjax

    if options.table:
        return show_table(Path(options.output or plan.AOT_RECORD))
    asked = options.configs, options.types, options.stages, options.output
    return run_aot(*asked, missing=options.missing)


def _with_spec(options: argparse.Namespace, arguments: list[str]) -> int:
    if not options.spec:
        raise LaunchError(f"{options.verb} needs --spec, e.g. --spec launch/specs/v5e1.py")
    spec = load_spec(options.spec, options.set)
    _check_arguments(options.verb, arguments)
    if options.verb == "plan":
        for line in plan.plan_lines(spec, arguments):
            print(line)
        return 0
    history = History(Path(options.history), spec.name)
    launcher = Launcher(spec, Runner(), history, arguments, poll_seconds=options.poll)
    return _run_verb(options, launcher)


def _run_verb(options: argparse.Namespace, launcher: Launcher) -> int:
    spec, verb = launcher.spec, options.verb
    if verb == "doctor":
        return plan.doctor(spec, launcher.runner, launcher.say)
    if verb == "status":
        return 0 if reports.show_status(launcher).word != "FAILED" else 1
    if verb == "logs":
        worker = None if options.all else options.worker
        return reports.show_logs(launcher, worker, options.lines, options.follow, options.tpu)
    if verb == "down":
        capacity.down(launcher)
        return 0
    if verb == "reap":
        launcher.say(f"{capacity.reap(launcher, time.time())} deleted")
        return 0
    with launcher.history.locked():
        return _run_locked(options, launcher)


def _run_locked(options: argparse.Namespace, launcher: Launcher) -> int:
    """The verbs that must not run twice at once for one name."""
    verb = options.verb
    if verb in ("up", "watch"):
        _confirm(launcher.spec, options.yes)
        return watch.watch(launcher, until_ready=verb == "up")
    if verb == "run":
        _check_workdir(launcher.spec)
        watch.run(launcher, options.replace)
        return 0
    hosts = launcher.ready_hosts()
    {"sync": workers.sync, "setup": workers.setup, "stop": workers.stop}[verb](launcher, hosts)
    return 0


def _confirm(spec: Spec, yes: bool) -> None:
    """Says what it costs and asks a person.

    Raises:
        LaunchError: when nobody says yes.
    """
    _check_workdir(spec)
    if spec.mode == "existing":
        return
    print(f"launch: {capacity.price_line(spec)}", flush=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise LaunchError("this costs money: --yes where nobody can be asked")
    if input("launch: start it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise LaunchError("nothing was started")


def _check_workdir(spec: Spec) -> None:
    if spec.bucket == "BUCKET":
        raise LaunchError("name your bucket: --set workdir=gs://NAME/FOLDER")
    if spec.capacity == "spot" and not spec.workdir:
        raise LaunchError("spot loses the VM's disk: --set workdir=gs://NAME/FOLDER")


def _check_arguments(verb: str, arguments: Sequence[str]) -> None:
    words = [word.partition("=")[0].lstrip("-") for word in arguments]
    if "workdir" in words:
        raise LaunchError("the spec says where the work directory is: --set workdir=...")
    if arguments and verb in _WITHOUT_ARGUMENTS:
        raise LaunchError(f"{verb} takes no arguments of recjax.main: {' '.join(arguments)}")
    if verb in ("run", "watch") and "config" not in words:
        raise LaunchError("what is to be run? e.g. -- --config configs/quickstart.py")


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch",
        description="Starts recjax on TPU VMs and pods through gcloud.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("verb", choices=_VERBS, metavar="VERB")
    add("--spec", default="", help="a file of launch/specs")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the spec")
    add("--yes", action="store_true", help="up, watch: do not ask about the money")
    add("--replace", action="store_true", help="run: stop a run that is there")
    add("--worker", type=int, default=0, help="logs: of which worker")
    add("--all", action="store_true", help="logs: of all workers")
    add("--follow", "-f", action="store_true", help="logs: go on as they grow")
    add("--tpu", action="store_true", help="logs: of the TPU driver")
    add("--lines", type=int, default=100, help="logs: how many")
    add(
        "--poll", type=float, default=20.0, metavar="SECONDS", help="up, watch, down: between looks"
    )
    add("--history", default="runs/launch", metavar="FOLDER", help="what this machine remembers")
    add("--processes", type=int, default=2, help="local: how many")
    add("--devices", type=int, default=4, help="local: CPU devices of each")
    add("--configs", nargs="+", default=[], help="aot: which (all that are shipped)")
    add("--types", nargs="+", default=[], help="aot: TPU types")
    add("--stages", nargs="+", default=[], help="aot: whose trainings (the first that trains)")
    add("--output", default="", help="aot: JSON file; what others have put there stays")
    add("--missing", action="store_true", help="aot: only what the JSON file has not")
    add("--table", action="store_true", help="aot: print what is in the JSON file as a table")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
