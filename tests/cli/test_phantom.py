"""``nisf phantom``: files of others stay unless their replacement is asked for."""

from functools import partial

import pytest

from nisf.cli import main
from nisf.phantom import Scanner, write_cohort

SMALL = Scanner(matrix=(48, 48), spacing_mm=4.0, frames=4)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr("nisf.phantom.write_cohort", partial(write_cohort, scanner=SMALL))


def test_a_foreign_file_is_replaced_on_request_only(tmp_path, capsys):
    foreign = tmp_path / "phantom0000" / "sa.nii.gz"
    foreign.parent.mkdir()
    foreign.write_bytes(b"somebody's")
    command = ["phantom", str(tmp_path), "--subjects", "1"]
    assert main(command) == 2
    assert capsys.readouterr().err.endswith("choose another output folder, or overwrite it (--overwrite)\n")
    assert foreign.read_bytes() == b"somebody's"
    assert main([*command, "--overwrite"]) == 0
    assert foreign.stat().st_size > 10_000


def test_subjects_from_before_are_named(tmp_path, capsys):
    assert main(["phantom", str(tmp_path), "--subjects", "1"]) == 0
    assert "note" not in capsys.readouterr().out
    (tmp_path / "phantom0000").rename(tmp_path / "phantom0001")
    assert main(["phantom", str(tmp_path), "--subjects", "1", "--seed", "1"]) == 0
    assert f"note: {tmp_path} also contains phantom0001 from before" in capsys.readouterr().out
