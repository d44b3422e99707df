"""What is run, word by word: one golden file a spec, and the real gcloud's own parser over it.

After a wanted change:  REWRITE_GOLDEN=1 python -m pytest tests/launch/test_commands.py
"""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from launch import __main__ as cli
from launch import commands, scripts
from launch.plan import all_commands, aot_lines, plan_lines
from launch.spec import load_spec

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
SPECS = sorted((ROOT / "launch/specs").glob("[!_]*.py"))
ARGUMENTS = ["--config", "configs/smoke.py", "--config.seed=3"]
gcloud = shutil.which("gcloud")


def lines_of(path: Path) -> list[str]:
    spec, lines = load_spec(str(path)), []
    for verb, found in all_commands(spec, ARGUMENTS).items():
        lines += [f"# {verb}", *(shlex.join(command) for command in found)]
    return lines


def test_every_spec_is_here() -> None:
    assert {path.stem for path in SPECS} == {
        *("existing", "v5e16_pod", "v5e1", "v5e8_spot", "v5p2slice", "v6e8_flex"),
    }


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_commands_are_the_golden_ones(path: Path) -> None:
    golden, found = GOLDEN / f"{path.stem}.txt", "\n".join(lines_of(path)) + "\n"
    if os.environ.get("REWRITE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_plan_prints_the_same_lines_and_the_price() -> None:
    path = ROOT / "launch/specs/v5e8_spot.py"
    text = "\n".join(plan_lines(load_spec(str(path)), ARGUMENTS))
    assert all(line in text for line in lines_of(path))
    assert "at most $9.60 an hour, $115.20 in max_hours = 12" in text


def test_plan_shows_what_the_tpu_compiler_said(tmp_path: Path) -> None:
    record = tmp_path / "aot.json"
    row = {"config": "c.py", "training": "pretrain", "accelerator": "v6e-8"}
    record.write_text(json.dumps({"rows": [{**row, "verdict": "fits, 1.00 of 31.25 GiB"}]}))
    for words in (["--config", "c.py"], ["--config=c.py"]):
        (line,) = aot_lines("v6e-8", words, record)
        assert line == "ahead of time, c.py pretrain: fits, 1.00 of 31.25 GiB"
    assert aot_lines("v6e-4", ["--config=c.py"], record) == []


def readme_lines() -> list[list[str]]:
    """The command lines of the README, with the words that it exports put in."""
    found, exported = [], ""
    for line in (ROOT / "README.md").read_text().splitlines():
        if line.startswith("export SPEC="):
            exported = shlex.split(line, comments=True)[1].partition("=")[2]
        if line.startswith("python -m launch "):
            found.append(shlex.split(line.replace("$SPEC", exported), comments=True)[3:])
    return found


@pytest.mark.parametrize("words", readme_lines(), ids=lambda words: words[0])
def test_lines_of_the_readme_are_understood(words: list[str], monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    mine, theirs = cli._split(words)
    options = cli._parser().parse_args(mine)
    if options.verb in ("local", "aot"):
        assert all(Path(config).exists() for config in options.configs)
    elif options.verb != "VERB":
        load_spec(options.spec, [w.replace("NAME", "x") for w in options.set])
        cli._check_arguments(options.verb, theirs)


def test_words_survive_the_shell_of_the_worker() -> None:
    spec = load_spec(str(SPECS[0]), ["env=A=x y"])
    line = scripts.start(spec, 1, {}, ["--config.name=it's $HOME", "two  spaces"])
    (words,) = [shlex.split(line)]
    assert "A=x y" in words and "--config.name=it's $HOME" in words and "two  spaces" in words


def test_data_in_the_bucket_are_read_from_its_mount() -> None:
    spec = load_spec(str(SPECS[0]), ["workdir=gs://b/run"])
    words = shlex.split(
        scripts.start(spec, 0, {}, ["--config.data.path=gs://b/log.csv", "gs://c/x"])
    )
    assert "--config.data.path=~/.recjax/gcs/b/log.csv" in words and "gs://c/x" in words
    assert words[-1] == "~/.recjax/gcs/b/run"


def test_first_worker_alone_deletes_at_the_end() -> None:
    spec, facts = load_spec(str(SPECS[0])), {"RECJAX_AT_END": "gcloud delete"}
    assert "RECJAX_AT_END" in scripts.start(spec, 0, facts, [])
    assert "RECJAX_AT_END" not in scripts.start(spec, 1, facts, [])


def test_ways_to_reach_a_worker() -> None:
    path = str(SPECS[0])
    through = commands.ssh(load_spec(path, ["iap=true"]), "z", "n", 0, "ls")
    assert through[:2] == ["gcloud", "alpha"] and "--tunnel-through-iap" in through
    inside = commands.ssh(load_spec(path, ["internal_ips=true"]), "z", "n", 0, "ls")
    assert inside[1] == "compute" and "--internal-ip" in inside


def lint(commands: list[list[str]], folder: Path) -> list[str]:
    """What gcloud's own parser has against commands; scripts of workers are none of its business.

    (It reads text, not words, and would look for flags inside of them.)
    """
    plain = [["--command=ls" if w.startswith("--command=") else w for w in c] for c in commands]
    lines = sorted({shlex.join(command) for command in plain})
    asked = folder / "commands.json"
    asked.write_text(json.dumps([{"command_string": line} for line in lines]))
    words = [str(gcloud), "meta", "lint-gcloud-commands", f"--commands-file={asked}"]
    answers = json.loads(subprocess.run(words, capture_output=True, text=True).stdout)
    assert len(answers) == len(lines)
    return [f"{a['command_string']}: {a['error_message']}" for a in answers if not a["success"]]


@pytest.mark.skipif(gcloud is None, reason="gcloud is not installed")
@pytest.mark.slow
def test_real_gcloud_knows_every_word(tmp_path: Path) -> None:
    asked = []
    for changes in ([], ["iap=true"], ["internal_ips=true", "project=p", "mode=direct"]):
        for path in SPECS:
            only_queued = path.stem in ("v5p2slice", "v6e8_flex")
            sets = [word for word in changes if not (only_queued and "mode" in word)]
            spec = load_spec(str(path), [*sets, "network=n", "subnetwork=s"] if sets else [])
            asked += [c for found in all_commands(spec, ARGUMENTS).values() for c in found]
    assert lint(asked, tmp_path) == []


@pytest.mark.skipif(gcloud is None, reason="gcloud is not installed")
@pytest.mark.slow
def test_real_gcloud_refuses_a_wrong_word(tmp_path: Path) -> None:
    wrong = ["gcloud compute tpus tpu-vm create x --spto", "gcloud compute tpus tpu-vm ssh x --iap"]
    assert len(lint([line.split() for line in wrong], tmp_path)) == 2
