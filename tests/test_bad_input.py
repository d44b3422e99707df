"""Every bad input ends with exit code 2 and one clear message, and leaves nothing half-written.

A message is clear when it names the offending thing and what would be right: each case lists the
words that must stand in it. The base is a small good log, so that a case fails for its own reason.
"""

import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from recjax import main

ROOT = Path(__file__).resolve().parents[1]
BAD_INPUT = 2
HEADER = "user_id,item_id,action,timestamp"
START = 1_700_000_000  # seconds


def log_rows(num_users: int = 60, num_events: int = 12, num_items: int = 25) -> list[str]:
    """CSV lines of a log that every split accepts: users walk through the items, an hour apart."""
    return [
        f"u{user},i{(7 * user + 3 * event) % num_items},view,"
        f"{START + 3600 * (event + 2 * user) + 7 * user}"
        for user in range(num_users)
        for event in range(num_events)
    ]


@dataclass
class Shop:
    """A folder with a good log and catalogue, and the flags that read them."""

    folder: Path

    def write(self, name: str, lines: list[str]) -> None:
        (self.folder / name).write_text("\n".join(lines) + "\n" * bool(lines))

    def change(self, name: str, change: Callable[[str], str]) -> None:
        path = self.folder / name
        path.write_text(change(path.read_text()))

    @property
    def workdir(self) -> Path:
        return self.folder / "work"

    def flags(self, *extra: str, stages: str = "prepare") -> list[str]:
        return [
            f"--config={ROOT}/configs/smoke.py",
            f"--workdir={self.workdir}",
            f"--stages={stages}",
            "--config.data.source=file",
            f"--config.data.path={self.folder}/log.csv",
            f"--config.data.catalogue_path={self.folder}/catalogue.csv",
            *extra,
        ]

    def half_written(self) -> list[str]:
        """Artefacts and leftovers in the work directory, which must not be there after a 2."""
        paths = [p for p in self.workdir.rglob("*") if p.is_file()] if self.workdir.is_dir() else []
        names = [str(p.relative_to(self.workdir)) for p in paths]
        kept = re.compile(r"(config|progress)\.json|\.stages/.*\.json")
        return [name for name in names if not kept.fullmatch(name)]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.write("log.csv", [HEADER, *log_rows()])
    titles = [f"i{i},Title of item {i},Root > Leaf{i % 3},brand{i % 4},{5 + i}" for i in range(25)]
    made.write("catalogue.csv", ["item_id,title,category,brand,price", *titles])
    return made


@dataclass(frozen=True)
class Case:
    """What is spoiled, and the words that the message must hold."""

    name: str
    words: tuple[str, ...]
    flags: tuple[str, ...] = ()
    spoil: Callable[[Shop], object] = lambda shop: None


def log_of(change: Callable[[str], str]) -> Callable[[Shop], object]:
    return lambda shop: shop.change("log.csv", change)


def catalogue_of(change: Callable[[str], str]) -> Callable[[Shop], object]:
    return lambda shop: shop.change("catalogue.csv", change)


def every_third(replace: Callable[[list[str]], list[str]]) -> Callable[[Shop], object]:
    """Spoils the fields of every third row, more than the share that goes to quarantine."""

    def change(text: str) -> str:
        lines = text.splitlines()
        for row in range(1, len(lines), 3):
            lines[row] = ",".join(replace(lines[row].split(",")))
        return "\n".join(lines) + "\n"

    return log_of(change)


DATA_CASES = [
    Case("missing log", ("gone.csv",), ("--config.data.path=gone.csv",)),
    Case("missing catalogue", ("gone.csv",), ("--config.data.catalogue_path=gone.csv",)),
    Case("missing users", ("gone.csv",), ("--config.data.users_path=gone.csv",)),
    Case("no path", ("config.data.path",), ("--config.data.path=",)),
    Case("empty log", ("log.csv", "empty"), (), log_of(lambda text: "")),
    Case("log of a header only", ("log.csv",), (), log_of(lambda text: HEADER + "\n")),
    Case(
        "missing column",
        ("user_id", "customer", "log.csv"),
        (),
        log_of(lambda text: text.replace("user_id", "customer")),
    ),
    Case(
        "column mapped to nothing there",
        ("zeit", "timestamp"),
        ("--config.data.columns.timestamp=zeit",),
    ),
    Case(
        "unknown action",
        ("sniff", "view"),
        (),
        every_third(lambda row: [row[0], row[1], "sniff", row[3]]),
    ),
    Case("unparsable times", ("timestamp",), (), every_third(lambda row: [*row[:3], "yesterday"])),
    Case("one user only", ("user",), (), log_of(lambda text: re.sub(r"(?m)^u\d+", "u1", text))),
    Case("one item only", ("item",), (), log_of(lambda text: re.sub(r",i\d+", ",i1", text))),
    Case(
        "fewer users than the split needs",
        ("user",),
        ("--config.prepare.split.method=folds",),
        log_of(lambda text: "\n".join([HEADER, *log_rows(num_users=3)]) + "\n"),
    ),
    Case(
        "too few users for cold users",
        ("user",),
        ("--config.prepare.split.method=cold_users",),
        log_of(lambda text: "\n".join([HEADER, *log_rows(num_users=2)]) + "\n"),
    ),
    Case(
        "users too short for leave-one-out",
        ("leave_one_out",),
        ("--config.prepare.split.method=leave_one_out", "--config.prepare.cleaning.user_core=1"),
        log_of(lambda text: "\n".join([HEADER, *log_rows(num_events=1)]) + "\n"),
    ),
    Case("k-core leaves nothing", ("user_core",), ("--config.prepare.cleaning.user_core=1000",)),
    Case(
        "catalogue without a title",
        ("title", "catalogue.csv"),
        (),
        catalogue_of(lambda text: text.replace("title", "name")),
    ),
    Case("empty catalogue", ("catalogue.csv",), (), catalogue_of(lambda text: "")),
    Case(
        "binary rubbish",
        ("log.csv",),
        (),
        lambda shop: (shop.folder / "log.csv").write_bytes(bytes(range(256)) * 64),
    ),
    Case(
        "parquet that is none",
        ("log.parquet",),
        ("--config.data.path={folder}/log.parquet",),
        lambda shop: shop.write("log.parquet", ["PAR1 not really"]),
    ),
]

FLAG_CASES = [
    Case("unknown key", ("pathh", "path"), ("--config.data.pathh=x",)),
    Case("unknown section", ("modell",), ("--config.modell.hidden_dim=3",)),
    Case("wrong type", ("num_seeds", "three"), ("--config.num_seeds=three",)),
    Case("wrong type of a share", ("valid_share",), ("--config.prepare.split.valid_share=much",)),
    Case("unknown stage", ("bake", "prepare", "expand"), ("--stages=prepare,bake",)),
    Case("stages out of order", ("--stages",), ("--stages=expand,prepare",)),
    Case("unknown stage to redo", ("bake", "prepare"), ("--redo=bake",)),
    Case("unknown flag", ("wrokdir", "workdir"), ("--wrokdir=x",)),
    Case("stray word", ("please",), ("please",)),
    Case("missing config", ("nowhere.py",), ("--config=nowhere.py",)),
    Case("no work directory", ("--workdir",), ("--workdir=",)),
]

VALUE_CASES = [
    Case("unknown source", ("carrier_pigeon", "file"), ("--config.data.source=carrier_pigeon",)),
    Case("unknown split", ("halves", "time"), ("--config.prepare.split.method=halves",)),
    Case("shares above one", ("test_share",), ("--config.prepare.split.test_share=1.5",)),
    Case("no seeds", ("num_seeds",), ("--config.num_seeds=0",)),
    Case("unknown data set", ("netflix", "movielens_1m"), (
        "--config.data.source=tfds", "--config.data.tfds_name=netflix",
    )),
]  # fmt: skip


def run(shop: Shop, case: Case, capfd, stages: str = "prepare") -> str:
    """Runs the program and returns what it said on stderr, with the rules of all cases checked."""
    case.spoil(shop)
    extra = [flag.format(folder=shop.folder) for flag in case.flags]
    code = main.main(shop.flags(*extra, stages=stages))
    out, err = capfd.readouterr()
    assert code == BAD_INPUT, err
    assert "Traceback" not in out + err
    assert err.startswith("recjax: ") and 1 <= len(err.strip().splitlines()) <= 8, err
    missing = [word for word in case.words if word not in err]
    assert not missing, f"{missing} not in: {err}"
    assert shop.half_written() == []
    return err


def test_the_base_is_good(shop: Shop) -> None:
    assert main.main(shop.flags()) == 0
    assert (shop.workdir / "prepared/profile.json").exists()


@pytest.mark.parametrize("case", DATA_CASES, ids=lambda case: case.name)
def test_bad_data(shop: Shop, case: Case, capfd) -> None:
    run(shop, case, capfd)


@pytest.mark.parametrize("case", FLAG_CASES, ids=lambda case: case.name)
def test_bad_flag_is_told_before_anything_is_made(shop: Shop, case: Case, capfd) -> None:
    run(shop, case, capfd)
    assert not shop.workdir.exists()


@pytest.mark.parametrize("case", VALUE_CASES, ids=lambda case: case.name)
def test_bad_value_of_a_key(shop: Shop, case: Case, capfd) -> None:
    run(shop, case, capfd)


def test_message_gives_the_rows_of_bad_times(shop: Shop, capfd) -> None:
    case = next(case for case in DATA_CASES if case.name == "unparsable times")
    assert re.search(r"\brow", run(shop, case, capfd)), "a person must find the row"


def test_corrected_command_works_in_the_same_work_directory(shop: Shop, capfd) -> None:
    run(shop, Case("", ("zeit",), ("--config.data.columns.timestamp=zeit",)), capfd)
    assert main.main(shop.flags()) == 0, capfd.readouterr().err


def test_corrected_file_works_in_the_same_work_directory(shop: Shop, capfd) -> None:
    good = (shop.folder / "log.csv").read_text()
    run(shop, Case("", ("log.csv",), (), log_of(lambda text: "")), capfd)
    (shop.folder / "log.csv").write_text(good)
    assert main.main(shop.flags()) == 0, capfd.readouterr().err


def test_work_directory_of_another_config_is_refused_and_kept(shop: Shop, capfd) -> None:
    assert main.main(shop.flags()) == 0
    before = (shop.workdir / "prepared/profile.json").read_bytes()
    capfd.readouterr()
    assert main.main(shop.flags("--config.prepare.cleaning.user_core=3")) == BAD_INPUT
    err = capfd.readouterr().err
    for word in ("user_core", "2", "3", str(shop.workdir), "--workdir", "--redo"):
        assert word in err
    assert (shop.workdir / "prepared/profile.json").read_bytes() == before


def test_stage_whose_input_is_missing_names_it(shop: Shop, capfd) -> None:
    assert main.main(shop.flags(stages="expand")) == BAD_INPUT
    err = capfd.readouterr().err
    assert "prepare" in err and "--stages" in err


@pytest.mark.parametrize("kind", ["file", "below a file", "not permitted"])
def test_work_directory_that_cannot_be_written(shop: Shop, capfd, kind: str) -> None:
    if kind == "not permitted":
        place = Path("/proc/recjax")  # not even root writes there
    else:
        shop.write("taken", ["not a folder"])
        place = shop.folder / "taken" / ("below" if "below" in kind else "")
    assert main.main(shop.flags(f"--workdir={place}")) == BAD_INPUT
    err = capfd.readouterr().err
    assert str(place) in err and "Traceback" not in err


def test_action_that_is_rare_goes_to_quarantine_and_does_not_stop(shop: Shop) -> None:
    shop.change("log.csv", lambda text: text.replace(",view,", ",sniff,", 5))
    assert main.main(shop.flags()) == 0


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write over the limit fails like on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from recjax import main
sys.exit(main.main(sys.argv[2:]))
"""


def limited(shop: Shop, limit_bytes: int, flags: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(limit_bytes), *flags],
        cwd=ROOT,
        # Python 3.11 does not see that a .pyc was cut off, and leaves it for all to trip over
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        capture_output=True,
    )


@pytest.mark.parametrize("limit_bytes", [3000, 12000])
def test_full_disk_ends_with_one_message_and_the_same_command_goes_on(
    shop: Shop, limit_bytes: int
) -> None:
    """Files may not grow beyond the limit: the kernel answers a write as on a full disk."""
    done = limited(shop, limit_bytes, shop.flags())
    assert done.returncode == BAD_INPUT, done.stderr
    assert "Traceback" not in done.stderr and str(shop.workdir) in done.stderr
    assert re.search(r"space|disk|full|large", done.stderr)
    assert not (shop.workdir / "prepared").exists()
    done = limited(shop, resource.RLIM_INFINITY, shop.flags())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_disk_that_fills_up_in_a_stage(shop: Shop, capfd, monkeypatch, number: int) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(shop.workdir / "prepared/events.parquet"))

    monkeypatch.setattr("recjax.stages._run_stage", full)
    assert main.main(shop.flags()) == BAD_INPUT
    err = capfd.readouterr().err
    assert "Traceback" not in err and str(shop.workdir) in err and os.strerror(number) in err
