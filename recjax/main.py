"""Command line: parse flags, open the work directory, run the stages, turn errors to exit codes.

    python -m recjax.main --config configs/quickstart.py --workdir runs/quickstart
    python -m recjax.main --config configs/quickstart.py --dry_run
    python -m recjax.main --config configs/quickstart.py --aot v5e-8

Exit codes: 0 done; 1 unexpected failure; 2 bad flags, config or data; 3 other devices than
RECJAX_EXPECT_BACKEND and RECJAX_EXPECT_DEVICES name; 42 interrupted and saved.
Several processes run it alike on one shared work directory, see `recjax.distributed`.
"""

import difflib
import errno
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console

from recjax import distributed, host_memory, interrupts
from recjax.errors import Interrupted, UserError, WrongDevices
from recjax.workdir import STAGES

DONE, FAILED, BAD_INPUT, WRONG_DEVICES, INTERRUPTED = 0, 1, 2, 3, 42
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_HELP = """\
usage: python -m recjax.main --config FILE --workdir DIR [--stages A,B] [--redo STAGE]
                             [--config.SECTION.KEY=VALUE ...]
       python -m recjax.main --config FILE --dry_run [--workdir DIR] [--config.K=V ...]
       python -m recjax.main --config FILE --aot TPU [--stages A,B] [--config.K=V ...]

Turns a behaviour log into a better recommender and an honest report.

  --config FILE     a config, e.g. configs/quickstart.py; configs/default.py explains every key;
                    some take an argument, e.g. configs/sasrec.py:ml1m
  --workdir DIR     where everything is written; the same command again resumes; gs://BUCKET/FOLDER
                    is a folder of a bucket that gcsfuse mounts
  --stages A,B      only these stages (default: those the config lists)
  --redo STAGE      forget this stage and what follows from it, then run
  --dry_run         plan every training, print its parameters and memory a device, and end: 0 fits,
                    2 does not; sizes of the data from DIR, or config.aot before prepare
  --aot TPU         compile the step of every training for a TPU type (v5e-8, v5p-8, v6e-4, ...)
                    that need not exist (2xv5e-8: two slices): memory, FLOPs, collectives, and
                    whether it fits; config.aot sizes it
  --config.K=V      change one key, e.g. --config.data.path=events.parquet

stages:
  check       look at a stranger's log: mapping, profile, problems, a ready config
  prepare     clean, split, build vocabulary and examples
  features    item vectors from titles (skipped where the config asks for none)
  expand      fit the generators, draw synthetic behaviour, gate it
  tune        search config.tune.space, the same trials for every arm -> tuning/chosen_ARM.py;
              beside the path: name it in --stages
  pretrain    train the encoder on real, and on real and synthetic behaviour
  finetune    train the heads: next item, click-through
  evaluate    full ranking, floors, slices, intervals -> results.json
  recommend   the best items for every user -> recommendations.parquet
  report      report.html

examples:
  python -m recjax.main --config configs/quickstart.py --workdir runs/quickstart
  python -m recjax.main --config configs/your_log.py --config.data.path=events.csv \\
      --workdir runs/mine --stages check
  python -m recjax.main --config configs/quickstart.py --workdir runs/quickstart \\
      --stages prepare,features,expand,tune
"""


@dataclass(frozen=True)
class Command:
    """What the flags ask for; "" where one is not given (`workdir`: with `aot` or `dry_run`)."""

    config: ConfigDict
    workdir: str
    stages: tuple[str, ...]
    redo: str
    aot: str
    dry_run: bool


def run() -> None:
    """Runs the program with the shell's arguments and exits."""
    host_memory.keep_freed_memory()
    code = main(sys.argv[1:])
    interrupts.ignore()
    sys.exit(distributed.leave(code))


def main(argv: list[str]) -> int:
    """Runs the program.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.
    """
    console = Console(highlight=False)
    if not argv or any(word in ("-h", "--help", "--helpfull", "help") for word in argv):
        console.print(_HELP, markup=False)
        return DONE if argv else BAD_INPUT
    try:
        interrupts.install()
        return _run(argv, console)
    except WrongDevices as error:
        _refuse(str(error))
        return WRONG_DEVICES
    except UserError as error:
        return _refuse(str(error))
    except Interrupted:
        console.print("recjax: interrupted; all finished work is saved, the same command resumes")
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _NO_SPACE:
            traceback.print_exc()
            return FAILED
        return _refuse(f"the disk is full: {error}; free some space, the same command goes on")
    except Exception:
        traceback.print_exc()
        return FAILED


def _refuse(message: str) -> int:
    Console(stderr=True, highlight=False).print(f"recjax: {message}", markup=False, soft_wrap=True)
    return BAD_INPUT


def _run(argv: list[str], console: Console) -> int:
    command = parse(argv)
    if command.aot:
        from recjax import preflight  # imports jax; bad flags are told before that

        preflight.run(command.config, command.aot, command.stages, console)
        return DONE
    if command.dry_run:
        from recjax import dry_run

        dry_run.run(command.config, command.workdir, command.stages, console)
        return DONE
    distributed.start()
    interrupts.install()  # again: JAX took SIGTERM for itself when several processes met
    from recjax import stages as runner
    from recjax.parallel.hardware import check_devices

    check_devices(os.environ)
    runner.run_stages(command.config, command.workdir, command.stages, command.redo, console)
    return DONE


def parse(argv: list[str]) -> Command:
    """Reads the flags; the config is locked.

    Raises:
        UserError: naming the flag, key or stage that is wrong and what would be right.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "", lock_config=True, flag_values=values, sys_argv=["recjax", *argv]
    )
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_list("stages", [], "", flag_values=values)
    flags.DEFINE_string("redo", "", "", flag_values=values)
    flags.DEFINE_string("aot", "", "", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "", flag_values=values)
    _check_config_file(argv)
    try:
        rest = values(["recjax", *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(_unknown_flag(error, argv)) from error
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(_bad_override(error, argv)) from error
    if rest:
        raise UserError(f"argument {rest[0]!r} is not understood; see --help")
    if values["config"].value is None:
        raise UserError("--config is missing; e.g. --config configs/quickstart.py, see --help")
    config = values["config"].value
    aot, workdir = (str(values[name].value or "") for name in ("aot", "workdir"))
    dry_run = bool(values["dry_run"].value)
    if not workdir and not aot and not dry_run:
        raise UserError(f"--workdir is missing; e.g. --workdir runs/{config.name}")
    stages: tuple[str, ...] = tuple(values["stages"].value or config.stages)
    redo = str(values["redo"].value or "")
    _check_stages(stages, redo)
    return Command(config, workdir, stages, redo, aot, dry_run)


def _check_config_file(argv: list[str]) -> None:
    for index, word in enumerate(argv):
        name, _, value = word.partition("=")
        if name.lstrip("-") != "config":
            continue
        path = value or (argv[index + 1] if index + 1 < len(argv) else "")
        # configs/sasrec.py:ml1m is a file and the argument of its get_config
        if not Path(path).is_file() and not Path(path.rpartition(":")[0]).is_file():
            known = ", ".join(sorted(str(p) for p in Path("configs").glob("[!_]*.py")))
            raise UserError(f"--config {path}: no such file; here are: {known or 'none'}")


def _check_stages(stages: tuple[str, ...], redo: str) -> None:
    known = ("check", *STAGES)
    for flag, names in (("--stages", stages), ("--redo", (redo,) if redo else ())):
        for name in names:
            if name not in known:
                raise UserError(f"{flag}: unknown stage {name!r}; known: {', '.join(known)}")
    order = [known.index(name) for name in stages]
    if order != sorted(set(order)):
        raise UserError(f"--stages {','.join(stages)}: name each once, in the order {known}")


def _unknown_flag(error: flags.UnrecognizedFlagError, argv: list[str]) -> str:
    name = error.flagname
    if name.startswith("config."):
        return _bad_override(error, [f"--{name}="])
    near = difflib.get_close_matches(
        name, ("config", "workdir", "stages", "redo", "aot", "dry_run", "help"), 1
    )
    return f"unknown flag --{name}" + (f"; did you mean --{near[0]}?" if near else "; see --help")


def _bad_override(error: Exception, argv: list[str]) -> str:
    lines = str(error).strip().strip("'\"").splitlines() or [repr(error)]
    text = lines[0]
    overrides = [word for word in argv if word.lstrip("-").startswith("config.")]
    named = [word for word in overrides if _key(word) in text] or overrides
    if not named or "parsing config file" in text:  # then the last line says what get_config did
        return f"--config: {lines[-1]}"
    key = _key(named[0])
    near = difflib.get_close_matches(key, _known_keys(), 1, cutoff=0.5)
    if key in _known_keys():
        return f"--{named[0].lstrip('-')}: {text}"
    hint = f"; did you mean --config.{near[0]}?" if near else ""
    return f"config key {key!r} does not exist{hint} (configs/default.py lists all)"


def _key(word: str) -> str:
    return word.lstrip("-").partition("=")[0].removeprefix("config.")


def _known_keys() -> list[str]:
    from configs import default

    return list(dotted_keys(default.get_config()))


def dotted_keys(config: ConfigDict, prefix: str = "") -> list[str]:
    """Returns every key of a config, sections dotted."""
    keys = []
    for name, value in config.items():
        path = f"{prefix}{name}"
        keys.append(path)
        if isinstance(value, ConfigDict):
            keys += dotted_keys(value, f"{path}.")
    return keys


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # keep the runtime's chatter off the screen
    run()
