#!/usr/bin/env python3
"""A stand-in for gcloud: TPUs are JSON files, workers are folders, ssh is bash in one of them.

Its words, streams and exit codes are those of the real one. `FAKE_GCLOUD` names its folder:
    state.json   {"queued": {name: facts}, "nodes": {name: facts}}
    faults.json  [{"match": words of a command, "times": n, "err": text, "code": 1, "sleep": s}]
    log          one JSON list a call
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("FAKE_GCLOUD", "."))
HOSTS = int(os.environ.get("FAKE_HOSTS", "1"))


def main(argv: list[str]) -> int:
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (FOLDER / "log").open("a") as log:
            log.write(json.dumps(argv) + "\n")
        fault = take_fault(" ".join(argv))
        kill_the_launcher()
    if fault:
        time.sleep(fault.get("sleep", 0))
        if "err" in fault:
            sys.stderr.write(fault["err"] + "\n")
            return fault.get("code", 1)
    words = [word for word in argv if word != "alpha"]
    flags = dict(w[2:].partition("=")[::2] for w in words if w.startswith("--"))
    words = [word for word in words if not word.startswith("--")]
    if words[:2] == ["compute", "tpus"]:
        return tpus(words[2], words[3], words[4:], flags)
    if words[:2] == ["storage", "cat"]:
        return storage_cat(words[2])
    return other(words)


def kill_the_launcher() -> None:
    """At the call whose number `kill_at` has; the call itself is carried out."""
    path = FOLDER / "kill_at"
    if path.exists() and len((FOLDER / "log").read_text().splitlines()) == int(path.read_text()):
        os.kill(os.getppid(), signal.SIGKILL)


def take_fault(line: str) -> dict | None:
    path = FOLDER / "faults.json"
    faults = json.loads(path.read_text()) if path.exists() else []
    for fault in faults:
        if fault["match"] in line and fault.get("times", 1):
            fault["times"] = fault.get("times", 1) - 1
            path.write_text(json.dumps(faults))
            return fault
    return None


def tpus(kind: str, verb: str, words: list[str], flags: dict[str, str]) -> int:
    if verb in ("ssh", "scp"):
        return contact(verb, words, flags)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = FOLDER / "state.json"
        state = json.loads(path.read_text()) if path.exists() else {"queued": {}, "nodes": {}}
        code = change(state, kind, verb, words, flags)
        path.write_text(json.dumps(state))
    return code


def change(state: dict, kind: str, verb: str, words: list[str], flags: dict[str, str]) -> int:
    table = state["queued" if kind == "queued-resources" else "nodes"]
    if kind == "accelerator-types":
        print(json.dumps([{"type": flags["filter"].partition(":")[2]}]))
        return 0
    if verb == "list":
        print(json.dumps([v for v in table.values() if v["zone"] == flags["zone"]]))
        return 0
    name = words[0]
    there = name in table and table[name]["zone"] == flags["zone"]
    error = f"ERROR: (gcloud.compute.tpus.{kind}.{verb}) "
    if verb == "create":
        if there:
            sys.stderr.write(f"{error}ALREADY_EXISTS: Resource '{name}' already exists\n")
            return 1
        create(state, kind, name, flags)
        sys.stderr.write(f"Create request issued for: [{name}]\n")
        return 0
    if not there:
        sys.stderr.write(f"{error}NOT_FOUND: Resource '{name}' was not found\n")
        return 1
    if verb == "describe":
        print(json.dumps(table[name]))
        return 0
    for node in [n for n, v in state["nodes"].items() if n == name or v["queue"] == name]:
        shut_down(state["nodes"].pop(node), node)
    state["queued"].pop(name, None)
    sys.stderr.write(f"Delete request issued for: [{name}]\n")
    return 0


def create(state: dict, kind: str, name: str, flags: dict[str, str]) -> None:
    labels = dict(pair.split("=") for pair in flags["labels"].split(","))
    queued = kind == "queued-resources"
    facts = {
        "acceleratorType": flags["accelerator-type"],
        "runtimeVersion": flags.get("runtime-version") or flags["version"],
        "labels": labels,
        "zone": flags["zone"],
    }
    names = [flags.get("node-id", name)]
    if "node-count" in flags:
        names = [f"{flags['node-prefix']}-{i}" for i in range(int(flags["node-count"]))]
    if queued:
        state["queued"][name] = {
            "name": f"projects/p/locations/z/queuedResources/{name}",
            "state": {"state": "ACTIVE"},
            "tpu": {"nodeSpec": [{"nodeId": n, "node": facts} for n in names]},
            "zone": flags["zone"],
        }
    for node in names:
        state["nodes"][node] = {
            **facts,
            "name": f"projects/p/locations/z/nodes/{node}",
            "state": "READY",
            "health": "HEALTHY",
            "networkEndpoints": [{"ipAddress": f"10.0.0.{i}"} for i in range(HOSTS)],
            "queue": name if queued else "",
            **({"queuedResource": f"projects/p/queuedResources/{name}"} if queued else {}),
        }


def home(node: str, worker: str) -> Path:
    return FOLDER / "homes" / f"{node}-{worker}"


def shut_down(facts: dict, node: str) -> None:
    """A VM that goes takes its processes and its disk along."""
    for worker in range(len(facts["networkEndpoints"])):
        folder = home(node, str(worker))
        for path in folder.glob(".recjax/runs/*/pid"):
            if (pid := path.read_text().strip()) != str(os.getpgid(0)):  # a VM that deletes itself
                subprocess.run(["kill", "-KILL", "--", f"-{pid}"], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def contact(verb: str, words: list[str], flags: dict[str, str]) -> int:
    state = json.loads((FOLDER / "state.json").read_text())
    remote = next((w for w in words if ":" in w), f"{words[0]}:")
    node, _, path = remote.partition(":")
    if state["nodes"].get(node, {}).get("state") != "READY":
        sys.stderr.write(f"ERROR: TPU VM {node} is not ready\n")
        return 1
    folder = home(node, flags["worker"])
    folder.mkdir(parents=True, exist_ok=True)
    if verb == "scp":
        here, there = words
        if remote == there:
            shutil.copy(here, folder / path)
        else:
            shutil.copytree(folder / path, Path(there, Path(path).name), dirs_exist_ok=True)
        return 0
    sys.stderr.write("SSH: Attempting to connect to worker 0...\n")
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(["bash", "-c", flags["command"]], cwd=folder, env=environment).returncode


def storage_cat(url: str) -> int:
    path = FOLDER / "storage" / url.removeprefix("gs://")
    if path.exists():
        print(path.read_text())
        return 0
    sys.stderr.write(f"ERROR: (gcloud.storage.cat) {url} matched no objects. NOT_FOUND\n")
    return 1


def other(words: list[str]) -> int:
    answers = {"auth": "me@example.com", "services": "tpu.googleapis.com", "config": "demo"}
    print(answers.get(words[0], '{"location": "US-WEST4"}'))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
