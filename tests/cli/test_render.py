"""``nisf render``: what reaches the subject, and what is refused."""

from dataclasses import replace

import pytest

import toys
from nisf.cli import main
from nisf.io.subject_file import write_subject
from nisf.prior.fit import fit
from nisf.subject.subject import Subject


@pytest.fixture
def points(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("x,y,z,t\n0,0,0,0.25\n5,-5,10,\n")
    return path


@pytest.fixture
def seen(toy_image_prior, tmp_path):
    """The file of a subject whose prior sees the slices."""
    write_subject(tmp_path / "seen.nisf", fit(toys.toy_case(5), toy_image_prior))
    return tmp_path / "seen.nisf"


@pytest.fixture
def fitted(toy_fitted, tmp_path):
    """The file of a subject that has a posterior."""
    write_subject(tmp_path / "fitted.nisf", toy_fitted)
    return tmp_path / "fitted.nisf"


def render(capsys, *words):
    """Exit status, output and errors."""
    status = main(["render", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.mark.parametrize("output", ["draws.nii.gz", "draws.csv"])
def test_a_subject_that_sees_its_slices_has_draws_too(seen, points, tmp_path, capsys, output):
    where = ["--points", points] if output.endswith(".csv") else []
    status, out, error = render(capsys, seen, "-o", tmp_path / "out" / output, *where, "--std")
    assert (status, error) == (0, "")
    assert out.startswith("wrote ")
    if where:
        assert "std_blood" in (tmp_path / "out" / output).read_text()
    else:
        assert (tmp_path / "out" / "draws_std-blood.nii.gz").is_file()


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ("render", []),
        ("render", ["--samples", "2", "--spacing", "8,8,10"]),
        ("query", ["--points"]),
        ("query_posterior", ["--points", "--samples", "2"]),
    ],
)
def test_working_memory_reaches_the_subject(fitted, points, tmp_path, capsys, monkeypatch, asked, options):
    found = []
    answers = getattr(Subject, asked)

    def noted(self, *arguments, memory_mb=512.0, **others):
        found.append(memory_mb)
        return answers(self, *arguments, memory_mb=memory_mb, **others)

    monkeypatch.setattr(Subject, asked, noted)
    output = tmp_path / ("a.csv" if "--points" in options else "a.nii.gz")
    words = [word for option in options for word in ([option, points] if option == "--points" else [option])]
    assert render(capsys, fitted, "-o", output, "--memory-mb", "37", *words)[0] == 0
    assert found == [37.0]


@pytest.mark.parametrize(
    ("output", "options", "said"),
    [
        ("a.png", ["--plane", "0,0,1", "--size", "-5"], "--size -5: give a positive number"),
        ("a.png", ["--plane", "0,0,1", "--size", "nan"], "--size nan: give a positive number"),
        ("a.png", ["--view", "4ch", "--centre", "1,2,3"], "--view: defines its own position"),
        ("a.nii.gz", ["--time", "5"], "--time 5: give fractions of the cycle from 0 to 1"),
        ("a.nii.gz", ["--time", "0,nan"], "--time 0,nan: give fractions of the cycle from 0 to 1"),
        ("a.nii.gz", ["--frames", "2", "--time", "0.3"], "--frames and --time: give one"),
        ("a.nii.gz", ["--centre", "1,2,3"], "--centre: the point of a plane"),
        ("a.nii.gz", ["--size", "50"], "--size: the side of a plane"),
        ("a.csv", ["--points", "POINTS", "--time", "0.5"], "--time: applies to grids and planes"),
    ],
)
def test_options_that_would_be_ignored_are_refused(seen, points, tmp_path, capsys, output, options, said):
    words = [points if word == "POINTS" else word for word in options]
    status, out, error = render(capsys, seen, "-o", tmp_path / output, *words)
    assert (status, out) == (2, "")
    assert said in error
    assert not (tmp_path / output).exists()


def test_a_subject_without_stacks_has_no_grid(fitted, toy_fitted, tmp_path, capsys):
    write_subject(fitted, replace(toy_fitted, stacks=()))
    status, out, error = render(capsys, fitted, "-o", tmp_path / "a.png", "--plane", "0,0,1")
    assert (status, out) == (2, "")
    assert "has no measured stack" in error


def test_points_outside_the_region_are_counted(seen, points, tmp_path, capsys):
    points.write_text("x,y,z\n0,0,0\n500,0,0\n0,0,-900\n")
    _, out, _ = render(capsys, seen, "-o", tmp_path / "a.csv", "--points", points)
    assert out.rstrip().endswith(
        "a.csv: 3 points, 2 of them outside the region, where every answer is background"
    )


def test_a_plane_outside_the_region_is_not_passed_over(seen, tmp_path, capsys):
    options = ["--plane", "0,0,1", "--centre", "0,0,5000", "--spacing", "8", "--time", "0"]
    for output in ("a.png", "a.nii.gz"):
        _, out, _ = render(capsys, seen, "-o", tmp_path / output, *options)
        assert "--plane 0,0,1: all of it outside the region, where every answer is background\n" in out
    _, out, _ = render(capsys, seen, "-o", tmp_path / "b.png", *options[:2], *options[4:])
    assert "outside the region" not in out


def test_help_names_the_subject(capsys):
    with pytest.raises(SystemExit) as left:
        main(["render", "--help"])
    assert left.value.code == 0
    assert "SUBJECT" in capsys.readouterr().out
