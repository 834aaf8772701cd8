"""Files of strokes: there and back, and every way in which they can be wrong."""

import json

import numpy as np
import pytest

import toys
from nisf.correction import file
from nisf.correction.file import read_strokes, strokes_of, write_strokes
from nisf.correction.stroke import Stroke
from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid
from nisf.errors import BadFileError, BadSettingError

ENTRY = {"label": "blood", "points_mm": [[1, 2, 3.5]], "time": 0.25}
STACK = Stack("sa", toys.toy_grid(frames=4), cycle_ms=800.0)


def test_there_and_back(tmp_path):
    strokes = (
        Stroke(((1.0, 2.0, 3.0), (4.0, 5.0, 6.25)), 0.5, "muscle", False, 2.0),
        Stroke(((0.0, 0.0, 0.0),), 0.0, "background"),
    )
    write_strokes(tmp_path / "strokes.json", strokes)
    assert read_strokes(tmp_path / "strokes.json") == strokes


def test_strokes_of_another_scan_are_refused(tmp_path):
    path, stroke = tmp_path / "strokes.json", Stroke(((1.0, 2.0, 3.0),), 0.5, "muscle")
    write_strokes(path, [stroke], STACK)
    assert read_strokes(path, STACK) == read_strokes(path) == (stroke,)
    cine = Stack("sa", toys.toy_grid(frames=12))
    assert read_strokes(path, cine) == (stroke,), "the same place at other times"
    grid = toys.toy_grid(frames=4)
    moved = Grid(grid.shape, Affine(grid.affine.matrix + 0.01 * np.eye(4, k=3)), grid.times)
    with pytest.raises(
        BadFileError, match=r"strokes\.json: its strokes were drawn on a scan of another size"
    ):
        read_strokes(path, Stack("sa", moved))
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "scan": None}))
    assert read_strokes(path, Stack("sa", moved)) == (stroke,)


def test_times_in_frames_and_ms():
    assert strokes_of([ENTRY])[0].time == 0.25
    own = {name: value for name, value in ENTRY.items() if name != "time"}
    assert strokes_of([{**own, "frame": 3}], STACK)[0].time == 0.75
    assert strokes_of([{**own, "time_ms": 200}], STACK)[0].time == 0.25


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label": 3}, "stroke 1: label: give the name"),
        ({"present": "no"}, "present: give true or false"),
        ({"points_mm": []}, "points_mm: give a list of 1 to 2000"),
        ({"points_mm": "here"}, "points_mm: give a list"),
        ({"points_mm": [[1, 2]]}, "a point is three numbers"),
        ({"points_mm": [[1, 2, "3"]]}, "points_mm: give a number, not 3"),
        ({"points_mm": [[1, 2, True]]}, "give a number, not True"),
        ({"points_mm": [[1, 2, 10**400]]}, "give a number"),
        ({"points_mm": [[1, 2, float("nan")]]}, "points_mm: give a number, not nan"),
        ({"radius_mm": float("nan")}, "radius_mm: give a number, not nan"),
        ({"time": float("nan")}, "time: give a number, not nan"),
        ({"time": float("inf")}, "time: give a number, not inf"),
        ({"time": -1}, "time -1"),
        ({"time": None}, "time: give a number"),
        ({"time": 0.1, "frame": 2}, "give one of time, time_ms, frame"),
        ({"radius_mm": 1e6}, "radius_mm 1000000"),
        ({"colour": "red"}, "unknown entry 'colour'"),
    ],
)
def test_wrong_entries(change, sentence):
    with pytest.raises(BadSettingError, match=sentence):
        strokes_of([{**ENTRY, **change}], STACK)


def test_wrong_frames_and_ms():
    own = {name: value for name, value in ENTRY.items() if name != "time"}
    for entry, stack, sentence in (
        ({"frame": float("nan")}, STACK, "stroke 1: frame: give a number, not nan"),
        ({"frame": float("-inf")}, STACK, "frame: give a number, not -inf"),
        ({"time_ms": float("nan")}, STACK, "time_ms: give a number, not nan"),
        ({"frame": 4}, STACK, "frame 4: give a whole number from 0 to 3"),
        ({"frame": 1.5}, STACK, "frame 1.5"),
        ({"time_ms": 900}, STACK, "time_ms 900: give 0 to 800"),
        ({"time_ms": 90}, None, "length of the case's cycle is unknown"),
        ({"frame": 0}, None, "frame: counts the frames of a stack, but none is given"),
        ({}, STACK, "give one of"),
    ):
        with pytest.raises(BadSettingError, match=sentence):
            strokes_of([{**own, **entry}], stack)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "nested too deeply|cannot be read"),
        ("[]", "not a file of strokes"),
        ('{"nisf_strokes": 7, "strokes": []}', "strokes of format 7; this nisf reads 1"),
        ('{"nisf_strokes": 1}', "strokes: give a list of at most 200"),
        ('{"nisf_strokes": 1, "strokes": [3]}', "stroke 1: give an object"),
        (json.dumps({"nisf_strokes": 1, "strokes": [ENTRY] * 201}), "at most 200"),
    ],
)
def test_wrong_files(tmp_path, text, sentence):
    path = tmp_path / "strokes.json"
    path.write_text(text)
    with pytest.raises(BadFileError, match=f"strokes.json: .*({sentence})"):
        read_strokes(path)


def test_missing_and_huge_files(tmp_path, monkeypatch):
    with pytest.raises(BadFileError, match="cannot be read"):
        read_strokes(tmp_path / "none.json")
    monkeypatch.setattr(file, "MOST_BYTES", 10)
    write_strokes(tmp_path / "strokes.json", [])
    with pytest.raises(BadFileError, match="bytes are too many"):
        read_strokes(tmp_path / "strokes.json")
