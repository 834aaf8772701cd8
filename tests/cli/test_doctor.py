"""`nisf doctor` says what works, and what does not."""

import json

import pytest

from nisf.cli import doctor, main
from nisf.outputs import provenance


def test_this_installation_works(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "a phantom was segmented in" in said
    assert said.splitlines()[-1] == "nisf works here"
    for part in ("nisf ", "python ", "torch ", "model cardiac-sax ", "extra dicom ", "compiled code"):
        assert part in said


def test_what_is_broken_is_named(capsys, monkeypatch):
    def broken():
        raise OSError("the disk is gone")

    monkeypatch.setattr(doctor, "caches", broken)
    broken.__name__ = "caches"
    assert main(["doctor", "--no-self-test", "--json"]) == 1
    found = {row["part"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["caches"] == {"part": "caches", "says": "OSError: the disk is gone", "good": False}
    assert found["torch"]["good"]
    assert "self-test" not in found


def test_a_missing_extra_is_no_failure(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy>=1", "no-such-package>=1; extra == 'x'"])
    assert list(doctor.extras()) == [doctor.Finding("extra x", "not installed (needs no-such-package)")]


@pytest.mark.parametrize("text", ["abc123\n", "\n"])
def test_a_wheel_knows_its_commit(tmp_path, monkeypatch, text):
    (tmp_path / "commit.txt").write_text(text)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() == (text.strip() or None)


def test_a_copy_without_git_has_no_commit(tmp_path, monkeypatch):
    home = tmp_path / "site" / "nisf" / "outputs"
    home.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(home / "provenance.py"))
    assert provenance.commit() is None
