"""Label tables for other programs say what the anatomy says; nobody else's file is replaced."""

import json
import re

import pytest

from nisf.data.anatomy import load_anatomy
from nisf.errors import BadFileError
from nisf.io.label_tables import ITK_SNAP, SLICER, write_label_tables

HEART = load_anatomy("cardiac-sax")


def test_every_table_says_what_the_anatomy_says(tmp_path):
    assert write_label_tables(tmp_path, HEART) == []
    assert json.loads((tmp_path / "labels.json").read_text()) == dict(zip("0123", HEART.labels, strict=True))
    # As ITK-SNAP parses it: numbers, then the quoted name.
    pattern = r'^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"(.*)"$'
    snap = re.findall(pattern, (tmp_path / ITK_SNAP).read_text(), re.MULTILINE)
    assert snap[0] == ("0", "0", "0", "0", "0", "0", "0", "Clear Label")
    assert [(int(row[0]), row[7]) for row in snap[1:]] == list(enumerate(HEART.labels))[1:]
    assert "".join(f"{int(part):02x}" for part in snap[1][1:4]) == HEART.colours[1].removeprefix("#")
    lines = [line.split() for line in (tmp_path / SLICER).read_text().splitlines() if line[0] != "#"]
    assert all(len(line) == 6 for line in lines)
    assert [line[1].replace("_", " ") for line in lines] == list(HEART.labels)
    assert "".join(f"{int(part):02x}" for part in lines[3][2:5]) == HEART.colours[3].removeprefix("#")


def test_the_same_tables_stay_and_others_are_not_replaced(tmp_path):
    write_label_tables(tmp_path, HEART)
    before = (tmp_path / ITK_SNAP).stat().st_mtime_ns
    write_label_tables(tmp_path, HEART)
    assert (tmp_path / ITK_SNAP).stat().st_mtime_ns == before
    (tmp_path / SLICER).write_text("0 mine 0 0 0 0\n")
    with pytest.raises(BadFileError, match=SLICER):
        write_label_tables(tmp_path, HEART)
    assert (tmp_path / SLICER).read_text() == "0 mine 0 0 0 0\n"
    assert SLICER in write_label_tables(tmp_path, HEART, overwrite=True)
