"""Correct by command: the same files as segmenting with the corrections, kept, undone, refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.cli import main
from nisf.correction.file import write_strokes
from nisf.correction.stroke import Stroke
from nisf.io.readers import read_image
from nisf.io.writers import write_volume
from nisf.kinds.load import read_subject
from nisf.outputs import read_part
from nisf.quality.judgement import (
    Judgement,
    judgement_for_intervals,
    kept_judgement,
    with_judgement,
)
from nisf.segmentation import PART
from nisf.segmentation.correct import correct, kept_strokes, request_of

pytestmark = pytest.mark.usefixtures("light")


def made(folder):
    return read_part(folder, "scan", PART).made.options


@pytest.fixture
def world(toy_image_prior, tmp_path, capsys):
    """A scan, its output, and a file with a stroke that changes it."""
    case = toys.toy_case(95)
    write_volume(tmp_path / "scan.nii.gz", toys.image_of(case), case.stacks[0].grid)
    prior = str(toy_image_prior.folder)
    run = ["segment", str(tmp_path / "scan.nii.gz"), "--prior", prior, "--threads", "1"]
    assert main([*run, "-o", str(tmp_path / "out")]) == 0
    grid = case.stacks[0].grid
    line = grid.affine(np.array([[10, 12, 3], [14, 12, 3]]))
    stroke = Stroke(tuple(map(tuple, line.tolist())), 0.0, "muscle", radius_mm=3.0)
    write_strokes(tmp_path / "strokes.json", [stroke])
    capsys.readouterr()
    return tmp_path, run, stroke


def labels_in(folder):
    return np.asarray(read_image(folder / "scan_seg.nii.gz", toys.ANATOMY).slices[3].image)


def test_both_ways_give_the_same_and_undo_gives_the_first(world, capsys):
    path, run, stroke = world
    first = labels_in(path / "out")
    before = (path / "out" / "measures.csv").read_text()
    subject = str(path / "out" / "scan.nisf")
    saved = path / "all.json"
    assert main(["correct", subject, str(path / "strokes.json"), "--save", str(saved)]) == 0
    assert "scan: 1 stroke" in capsys.readouterr().out
    data = json.loads(saved.read_text())
    assert data.pop("scan"), "says which scan it was drawn on"
    assert data == json.loads((path / "strokes.json").read_text())
    with_file = ["--corrections", str(saved)]
    assert main([*run, "-o", str(path / "again"), *with_file]) == 0
    np.testing.assert_array_equal(labels_in(path / "out"), labels_in(path / "again"))
    assert (labels_in(path / "out") != first).any()
    assert (path / "out" / "measures.csv").read_text() != before
    assert made(path / "out") == made(path / "again")
    assert kept_strokes(path / "out", "scan") == (stroke,)
    # Segmenting again leaves the corrected case alone; asking for something else keeps the strokes.
    assert main([*run, "-o", str(path / "out")]) == 0
    said = capsys.readouterr().out
    assert "keeps its 1 stroke" in said
    assert "done already" in said
    assert main([*run, "-o", str(path / "out"), "--islands", "remove"]) == 0
    assert kept_strokes(path / "out", "scan") == (stroke,)
    assert main(["correct", subject, "--undo", "9"]) == 2
    assert "--undo 9: the case has 1 stroke; give 0 to 1" in capsys.readouterr().err
    assert main(["correct", subject, "--undo", "1"]) == 0
    assert kept_strokes(path / "out", "scan") == ()
    assert main([*run, "-o", str(path / "out"), "--overwrite"]) == 0
    np.testing.assert_array_equal(labels_in(path / "out"), first)


def test_strokes_are_added(world):
    path, _, stroke = world
    subject = path / "out" / "scan.nisf"
    for count in (1, 2):
        assert main(["correct", str(subject), str(path / "strokes.json"), "--add"]) == 0
        assert read_subject(subject).strokes == (stroke,) * count


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "give a file of strokes, or --undo"),
        (["--undo", "1"], "--undo 1: the case has no strokes to undo"),
        (["none.json"], "none.json: no such file"),
    ],
)
def test_refusals(world, capsys, more, sentence):
    path, _, _ = world
    assert main(["correct", str(path / "out" / "scan.nisf"), *more]) == 2
    assert sentence in capsys.readouterr().err


def test_corrections_are_of_one_case(world, capsys):
    path, run, _ = world
    other = path / "other.nii.gz"
    other.write_bytes((path / "scan.nii.gz").read_bytes())
    command = [run[0], str(other), *run[1:], "-o", str(path / "two"), "--corrections"]
    assert main([*command, str(path / "strokes.json")]) == 2
    assert "applies to one case, but there are 2; give --only" in capsys.readouterr().err


def test_what_was_asked_comes_back(world):
    path, _, stroke = world
    subject = read_subject(path / "out" / "scan.nisf")
    assert request_of(subject).strokes == ()
    said = Judgement("red", {"blood": 0.4, "muscle": 0.6}, 0.5, ("odd",))
    judged = with_judgement(subject, said)
    assert kept_judgement(correct(judged, [])) == said
    new = correct(judged, [stroke])
    # The new answer was not judged, but its intervals are as wide as before.
    assert kept_judgement(new) is None
    assert judgement_for_intervals(new) == said
    again = correct(new, [stroke, stroke])
    assert (kept_judgement(again), judgement_for_intervals(again)) == (None, said)
    assert correct(again, []).summary == judged.summary
    assert request_of(new) == replace(request_of(subject), strokes=(stroke,))


def test_light_and_intervals_do_not_depend_on_when_strokes_were_drawn(world, monkeypatch):
    """Segmented with the strokes or corrected afterwards; only the answer without strokes is ever judged."""
    path, run, _ = world

    def judgement(subject, *_, **__):
        return Judgement("red" if subject.strokes else "amber", {}, 0.8 - len(subject.strokes) / 10, ("odd",))

    monkeypatch.setattr("nisf.quality.judge.judge", judgement)
    assert main([*run, "-o", str(path / "plain")]) == 0
    assert main([*run, "-o", str(path / "at once"), "--corrections", str(path / "strokes.json")]) == 0
    assert main(["correct", str(path / "plain" / "scan.nisf"), str(path / "strokes.json")]) == 0
    for folder in ("plain", "at once"):
        subject = read_subject(path / folder / "scan.nisf")
        assert kept_judgement(subject) is None
        assert judgement_for_intervals(subject) == Judgement("amber", {}, 0.8, ("odd",))
        assert main(["correct", str(path / folder / "scan.nisf"), "--undo", "1"]) == 0
        assert kept_judgement(read_subject(path / folder / "scan.nisf")).light == "amber"


def test_a_scan_that_is_gone_is_named(world, capsys):
    """Affine and units of the segmentation may change."""
    path, _, _ = world
    (path / "scan.nii.gz").unlink()
    assert main(["correct", str(path / "out" / "scan.nisf"), str(path / "strokes.json")]) == 0
    assert f"{path / 'scan.nii.gz'}: is not there, so its header is not copied" in capsys.readouterr().out
