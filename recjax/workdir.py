"""The work directory: paths, atomic writes, fingerprints of stages and the list of what is done.

Every stage's artefacts carry the fingerprint of what they were made from: the config sections the
stage reads and the digests of the stages before it. A stage refuses artefacts of other settings.
Stages write through `Workdir.fresh_folder` (beside, then rename), so nothing is ever half there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recjax import buckets
from recjax.errors import UserError

Json = Any

_ARM_SETTINGS = ("expansion.use_in", "expansion.synthetic_share", "expansion.overrides")
# stage -> (config keys it reads, stages whose artefacts it reads, folders and files it owns)
STAGE_INPUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "prepare": (("seed", "data", "prepare"), (), ("prepared",)),
    "features": (("features",), ("prepare",), ("features",)),
    "expand": (("seed", "num_seeds", "expansion"), ("prepare", "features"), ("expansion",)),
    "tune": (
        (
            *("seed", "tune", "model", "pretrain", "finetune", *_ARM_SETTINGS),
            *("evaluate.mask_history", "evaluate.max_valid_users"),
        ),
        ("prepare", "expand"),
        ("tuning",),
    ),
    "pretrain": (
        ("seed", "num_seeds", "model", "pretrain", *_ARM_SETTINGS),
        ("prepare", "features", "expand"),
        ("pretrain",),
    ),
    "finetune": (
        ("seed", "num_seeds", "model", "finetune", *_ARM_SETTINGS),
        ("prepare", "expand", "pretrain"),
        ("finetune",),
    ),
    "evaluate": (
        ("seed", "evaluate"),
        ("prepare", "expand", "pretrain", "finetune"),
        ("evaluation", "results.json"),
    ),
    "recommend": (
        ("recommend",),
        ("prepare", "finetune", "evaluate"),
        ("recommendations.parquet", "candidate_scores.parquet"),
    ),
    "report": (
        ("report", "name"),
        ("prepare", "expand", "evaluate", "recommend"),
        ("report.html",),
    ),
}
STAGES = tuple(STAGE_INPUTS)
TABLE_STAGES = ("prepare", "tune", "finetune", "evaluate", "report")  # of labelled rows


def write_json(path: Path, value: Json) -> None:
    """Writes JSON beside `path` and renames it into place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_text(json.dumps(value, indent=1, default=str) + "\n")
        beside.replace(path)
    except OSError as error:  # a failed write does not say where
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_json(path: Path) -> Json:
    """Reads a JSON file."""
    return json.loads(path.read_text())


def digest(value: Json) -> str:
    """Returns 16 hex digits that name a JSON-like value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Names a file's content by its size and its first and last MiB, cheap on any size."""
    if path.is_dir():
        return digest({child.name: file_digest(child) for child in sorted(path.iterdir())})
    size, block = path.stat().st_size, 1 << 20
    with path.open("rb") as file:
        head = file.read(block)
        file.seek(max(0, size - block))
        tail = file.read(block)
    return hashlib.sha256(str(size).encode() + head + tail).hexdigest()[:16]


@dataclass(frozen=True)
class Workdir:
    """Paths and bookkeeping of one run; `root` exists and is writable."""

    root: Path

    @classmethod
    def open(cls, root: str | Path) -> "Workdir":
        """Creates the directory where absent.

        Raises:
            UserError: if it is a URL of something else than a bucket, a file or not writable.
        """
        if str(root).startswith(buckets.SCHEME):
            root = buckets.local_folder(str(root))
        if "://" in str(root):  # would become a folder of that name, here
            raise UserError(f"--workdir {root}: give a folder, or {buckets.SCHEME}BUCKET/FOLDER")
        path = Path(root).expanduser().resolve()
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".write-probe-{os.getpid()}"
            probe.write_text("")
            probe.unlink(missing_ok=True)  # a process of another host may have the same number
        except OSError as error:
            raise UserError(
                f"--workdir {path}: cannot write there ({error.strerror}); "
                "give a directory that you may write to"
            ) from error
        return cls(path)

    @classmethod
    def finished(cls, path: str, stage: str, key: str) -> "Workdir":
        """Opens the work directory of another run to read what a stage made there.

        Args:
            path: the directory.
            stage: that must be finished.
            key: of the config whose `workdir` names it, for messages.

        Raises:
            UserError: when there is no run, or the stage is not finished.
        """
        found = cls(Path(path).resolve())
        if not path or not (found / "config.json").exists():
            raise UserError(f"{key}.workdir = {path!r}: give the work directory of another run")
        if not found.is_done(stage):
            raise UserError(f"{key}.workdir = {path!r}: its stage {stage!r} is not finished")
        return found

    def __truediv__(self, name: str) -> Path:
        """Returns the path of an artefact."""
        return self.root / name

    def require_done(self, stage: str, needed_by: str) -> None:
        """Raises UserError when `stage` is not finished here."""
        if not self.is_done(stage):
            raise UserError(
                f"stage {needed_by!r} reads the artefacts of {stage!r}, which is not finished in "
                f"{self.root}; run with --stages {stage},{needed_by} (or without --stages)"
            )

    def is_done(self, stage: str) -> bool:
        """Returns whether the stage's marker says done."""
        return bool(self._marker(stage).get("done"))

    def start(self, stage: str, fingerprint: Json) -> None:
        """Checks the fingerprint of earlier artefacts of this stage, then records it.

        Raises:
            UserError: if they were made from other settings or inputs; names the first field.
        """
        marker = self._marker(stage)
        made = marker and (marker["done"] or self._has_artefacts(stage))
        if made and marker["fingerprint"] != fingerprint:
            raise UserError(self._mismatch(stage, marker["fingerprint"], fingerprint))
        if not made:
            self._write_marker(stage, {"fingerprint": fingerprint, "done": False})

    def finish(self, stage: str, facts: Mapping[str, Json]) -> None:
        """Marks a stage as done, with its cost."""
        self._write_marker(stage, {**self._marker(stage), "done": True, "facts": dict(facts)})

    def facts(self, stage: str) -> dict[str, Json]:
        """Returns what `finish` recorded, empty when not done."""
        return self._marker(stage).get("facts", {})

    def stage_digest(self, stage: str) -> str:
        """Returns the digest of a stage's fingerprint, '' when it never ran."""
        marker = self._marker(stage)
        return digest(marker["fingerprint"]) if marker else ""

    def redo(self, stage: str) -> None:
        """Forgets a stage and all that read its artefacts, files included."""
        for name in STAGES[STAGES.index(stage) :]:
            if name != stage and not self._depends(name, stage):
                continue
            for artefact in STAGE_INPUTS[name][2]:
                remove(self.root / artefact)
            remove(self._marker_path(name))

    @contextmanager
    def fresh_folder(self, name: str) -> Iterator[Path]:
        """Yields a folder beside `name` that takes its place when the block ends well."""
        beside, final = self.root / f".{name}.partial", self.root / name
        remove(beside)
        beside.mkdir(parents=True)
        try:
            yield beside
        except BaseException:
            remove(beside)
            raise
        remove(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        beside.replace(final)

    def _has_artefacts(self, stage: str) -> bool:
        return any((self.root / name).exists() for name in STAGE_INPUTS[stage][2])

    def _depends(self, stage: str, on: str) -> bool:
        before = STAGE_INPUTS[stage][1]
        return on in before or any(self._depends(name, on) for name in before)

    def _mismatch(self, stage: str, old: Json, new: Json) -> str:
        field, was, now = first_difference(old, new)
        return (
            f"work directory {self.root}: {stage!r} was made with {field} = {was!r}, now it is "
            f"{now!r}; use another --workdir, or --redo {_owner(field, stage)} to make it anew"
        )

    def _marker_path(self, stage: str) -> Path:
        return self.root / ".stages" / f"{stage}.json"

    def _marker(self, stage: str) -> dict[str, Json]:
        path = self._marker_path(stage)
        return read_json(path) if path.exists() else {}

    def _write_marker(self, stage: str, value: Json) -> None:
        path = self._marker_path(stage)
        path.parent.mkdir(exist_ok=True)
        write_json(path, value)


def remove(path: Path) -> None:
    """Removes a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def first_difference(old: Json, new: Json, path: str = "") -> tuple[str, Json, Json]:
    """Returns (dotted field, old value, new value) of the first difference of two JSON trees."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                return first_difference(
                    old.get(key), new.get(key), f"{path}.{key}" if path else str(key)
                )
    return path, old, new


def _owner(field: str, stage: str) -> str:
    """The stage to redo: the one whose digest differs, else the stage itself."""
    parts = field.split(".")
    return parts[1] if parts[0] == "inputs" and len(parts) > 1 else stage
