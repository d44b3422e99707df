"""Several processes that train one model: who takes part, who writes, how all end together.

All processes run the same program on one shared work directory. Training and ranking are common
work; everything else is done by process 0 while the others wait. A process that fails or is stopped
tells the others, which end with the same exit code wherever they are; one that dies without a word
misses its heartbeats, and JAX ends the others (exit code 134). A run of one process, the rule, pays
nothing for any of this.

Environment:
    RECJAX_DIST: "auto" joins where a coordinator is named or JAX finds a TPU pod, GKE or SLURM with
        more than one process, and never in a notebook service; "force" insists on it; "off".
    RECJAX_COORDINATOR (or JAX_COORDINATOR_ADDRESS), RECJAX_NUM_PROCESSES, RECJAX_PROCESS_ID: the
        host:port of process 0, how many there are, which one this is; without them JAX finds out.
    RECJAX_INIT_SECONDS, RECJAX_HEARTBEAT_SECONDS, RECJAX_SHUTDOWN_SECONDS: how long to wait for the
        others at the start, for a sign of life, and for the others at the end.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recjax import interrupts
from recjax.errors import UserError

FAILED, INTERRUPTED = 1, 42
_POLL_SECONDS = 0.2
_UNWIND_SECONDS = 20.0  # a stopped process may take so long to leave what it is doing
_GRACE_SECONDS = 5.0  # beyond the heartbeat's own limit
_NOTEBOOKS = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")
_CLUSTERS = ("slurm", "gketpu", "gcetpu")  # names that JAX gives to what it detects
_PREFIX = "recjax/"  # of our keys in the coordinator's store


class _State:
    index = 0
    count = 1
    store: Any = None  # the coordinator's key-value store; None where a process is alone
    heartbeat_seconds = 0


@dataclass(frozen=True)
class Membership:
    """What the environment says of this process; None where JAX is to find out."""

    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    init_seconds: int
    heartbeat_seconds: int
    shutdown_seconds: int


def start() -> None:
    """Joins the other processes, if there are any; call before anything starts the backend.

    Raises:
        UserError: when the environment is contradictory.
    """
    member = read_environment(os.environ)
    if member is None:
        return
    import jax
    from jax._src import distributed as jax_distributed  # the store has no public name

    jax.distributed.initialize(
        member.coordinator,
        member.num_processes,
        member.process_id,
        initialization_timeout=member.init_seconds,
        heartbeat_timeout_seconds=member.heartbeat_seconds,
        shutdown_timeout_seconds=member.shutdown_seconds,
    )
    _State.index, _State.count = jax.process_index(), jax.process_count()
    _State.store = jax_distributed.global_state.client
    _State.heartbeat_seconds = member.heartbeat_seconds
    threading.Thread(target=_follow_the_first_to_end, daemon=True).start()


def read_environment(environment: Mapping[str, str]) -> Membership | None:
    """Returns how to join the other processes, None for a run of one process.

    Raises:
        UserError: naming the variable that is wrong.
    """
    mode = environment.get("RECJAX_DIST", "auto")
    if mode not in ("auto", "off", "force"):
        raise UserError(f"RECJAX_DIST = {mode!r}; known: auto, off, force")
    coordinator = environment.get("RECJAX_COORDINATOR") or environment.get(
        "JAX_COORDINATOR_ADDRESS"
    )
    notebook = any(name in environment for name in _NOTEBOOKS)
    if mode == "off" or (mode == "auto" and notebook):
        return None
    if mode == "auto" and not coordinator and not _jax_finds_others():
        return None
    return Membership(
        coordinator,
        _whole_number(environment, "RECJAX_NUM_PROCESSES", None),
        _whole_number(environment, "RECJAX_PROCESS_ID", None),
        _whole_number(environment, "RECJAX_INIT_SECONDS", 300) or 0,
        _whole_number(environment, "RECJAX_HEARTBEAT_SECONDS", 100) or 0,
        _whole_number(environment, "RECJAX_SHUTDOWN_SECONDS", 300) or 0,
    )


def is_main() -> bool:
    """Returns whether this is process 0, the one that writes."""
    return _State.index == 0


def count() -> int:
    """Returns the number of processes."""
    return _State.count


def wait_for_main(name: str) -> None:
    """Returns when process 0 has come to the same call; process 0 goes on at once.

    Args:
        name: of the place in the program; each name once in a run.
    """
    if _State.store is None:
        return
    if is_main():
        _State.store.key_value_set(f"{_PREFIX}main/{name}/set", "")
    while _look_up(f"main/{name}") is None:  # asleep in Python, so that signals are heard
        time.sleep(_POLL_SECONDS)


def agree(wish: bool, *, due: bool = True) -> bool:
    """Returns whether any process has the wish; the same answer on all, which must all ask.

    Args:
        wish: of this process.
        due: whether it is time to ask the others, the same on all; until then nobody gets its
            wish. A process alone gets it at once.
    """
    if _State.store is None or not due:
        return wish and _State.store is None
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(wish)).any())


def leave(code: int) -> int:
    """Ends this process's part in the run; a code other than 0 ends all, each with this code.

    Args:
        code: this process's exit code.

    Returns:
        The exit code, where this process is alone or all are well. Does not return otherwise.
    """
    if _State.store is None:
        return code
    if code == FAILED:  # the echo, maybe, of a lost process: JAX gets time to see it and to abort
        time.sleep(_State.heartbeat_seconds + _GRACE_SECONDS)
    if code:
        _set_once("ended", f"{code} {_State.index}")
        _end(code)
    _say_left()
    while len(_State.store.key_value_dir_get(f"{_PREFIX}left/")) < _State.count:
        time.sleep(_POLL_SECONDS)
    return code


def _follow_the_first_to_end() -> None:
    """Runs beside the program until it ends: what one process ends with, all end with."""
    while (ended := _look_up("ended")) is None:
        time.sleep(_POLL_SECONDS)
    code, index = (int(word) for word in ended.split())
    if index == _State.index:
        return
    if code == INTERRUPTED:
        if not interrupts.stop_requested():
            os.kill(os.getpid(), signal.SIGTERM)  # the main thread leaves as if stopped itself
        time.sleep(_UNWIND_SECONDS)
    sys.stderr.write(f"recjax: process {index} ended with code {code}, so does this one\n")
    _end(code)


def _end(code: int) -> None:
    """Ends this process without waiting for anyone; process 0 last, or the others would abort."""
    _say_left()
    deadline = time.monotonic() + _State.heartbeat_seconds + _UNWIND_SECONDS
    while is_main() and time.monotonic() < deadline:
        if len(_State.store.key_value_dir_get(f"{_PREFIX}left/")) == _State.count:
            time.sleep(_POLL_SECONDS)
            break
        time.sleep(_POLL_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread may still be inside a collective that never ends


def _say_left() -> None:
    _set_once(f"left/{_State.index}", "")


def _set_once(key: str, value: str) -> None:
    from jax.errors import JaxRuntimeError

    try:
        _State.store.key_value_set(f"{_PREFIX}{key}/set", value)
    except JaxRuntimeError:  # it is there already, or nobody is left to be told
        pass


def _look_up(key: str) -> str | None:
    """Asks for what is below the key: JAX raises nothing where there is nothing."""
    from jax.errors import JaxRuntimeError

    try:
        found = _State.store.key_value_dir_get(f"{_PREFIX}{key}/")
    except JaxRuntimeError:  # nobody is left to be asked
        return None
    return found[0][1] if found else None


def _jax_finds_others() -> bool:
    from jax._src.clusters import ClusterEnv  # detection has no public name

    return any(
        cluster.is_env_present() and cluster.get_process_count() > 1
        for cluster in ClusterEnv._cluster_types
        if cluster.name in _CLUSTERS
    )


def _whole_number(environment: Mapping[str, str], name: str, default: int | None) -> int | None:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise UserError(f"{name} = {text!r}; give a whole number")
    return int(text)
