import os

import pytest

from recjax.errors import UserError
from recjax.workdir import Workdir, file_digest, first_difference, read_json, write_json


def made_from(**config):
    return {"config": {"data": config}, "inputs": {}}


def test_other_settings_are_refused_naming_the_field(tmp_path):
    work = Workdir.open(tmp_path)
    work.start("prepare", made_from(path="a.csv"))
    work.start("prepare", made_from(path="b.csv"))  # nothing was made yet, so nothing is bound
    (work / "prepared").mkdir()
    work.start("prepare", made_from(path="b.csv"))
    with pytest.raises(UserError, match=r"config\.data\.path = 'b.csv', now it is 'c.csv'.*--redo"):
        work.start("prepare", made_from(path="c.csv"))


def test_redo_forgets_the_stage_and_what_follows(tmp_path):
    work = Workdir.open(tmp_path)
    for stage, folder in (("prepare", "prepared"), ("expand", "expansion")):
        (work / folder).mkdir()
        work.start(stage, {})
        work.finish(stage, {})
    work.redo("expand")
    assert work.is_done("prepare") and not work.is_done("expand")
    assert (work / "prepared").exists() and not (work / "expansion").exists()
    work.redo("prepare")
    assert not work.is_done("prepare") and not (work / "prepared").exists()


def test_a_stage_that_fails_leaves_the_old_folder(tmp_path):
    work = Workdir.open(tmp_path)
    with work.fresh_folder("prepared") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), work.fresh_folder("prepared") as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert (work / "prepared" / "a").read_text() == "old"


def test_missing_stage_is_named(tmp_path):
    with pytest.raises(UserError, match="'prepare', which is not finished"):
        Workdir.open(tmp_path).require_done("prepare", "expand")


def test_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"):
        Workdir.open(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write there"):
        Workdir.open(tmp_path / "work")


def test_file_digest_sees_head_tail_and_size(tmp_path):
    path = tmp_path / "log"
    digests = set()
    for content in (b"a" * 3_000_000, b"b" + b"a" * 2_999_999, b"a" * 2_999_999 + b"b", b"a" * 9):
        path.write_bytes(content)
        digests.add(file_digest(path))
    assert len(digests) == 4


def test_json_round_trip_leaves_nothing_beside(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, 2]})
    assert read_json(tmp_path / "x.json") == {"a": [1, 2]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_first_difference_finds_missing_keys():
    assert first_difference({"a": {"b": 1}}, {"a": {}}) == ("a.b", 1, None)


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs://"])
def test_url_of_no_bucket_is_refused_and_leaves_no_folder_of_its_name(
    tmp_path, monkeypatch, url
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="give .*gs://BUCKET/FOLDER"):
        Workdir.open(url)
    assert list(tmp_path.iterdir()) == []
