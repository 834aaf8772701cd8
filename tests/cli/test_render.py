"""``nisf render``: what reaches the subject, what is refused, and the tables of points."""

from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.cli import main
from nisf.cli.points import read_points, write_answers
from nisf.errors import BadFileError
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


def test_points_are_read_with_and_without_times(points, tmp_path):
    np.testing.assert_array_equal(read_points(points), [[0, 0, 0, 0.25], [5, -5, 10, 0]])
    (tmp_path / "still.csv").write_text("name,z,y,x\na,1,2,3e1\n")
    np.testing.assert_array_equal(read_points(tmp_path / "still.csv"), [[30, 2, 1, 0]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y\n1,2\n", "needs the columns x,y,z"),
        ("x,y,z\n1,2,left\n", "needs the columns x,y,z.*left"),
        ("x,y,z\n", "contains no points"),
        ("x,y,z\n1,2,inf\n", "contains no points, or coordinates that are not finite"),
        ("x,y,z,t\n1,2,3,0.5\n1,2,3,350\n", "t is 350 in row 2; give a fraction of the cycle, from 0 to 1"),
        ("x,y,z\n1,2\n", "contains no points, or coordinates that are not finite"),
        (None, "needs the columns x,y,z.*No such file"),
    ],
)
def test_points_that_cannot_be_read(tmp_path, text, said):
    path = tmp_path / "points.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadFileError, match=f"points.csv: {said}"):
        read_points(path)


def test_answers_are_written_a_row_per_point(tmp_path):
    points, image = np.array([[1.0, 2, 3, 0.5]]), np.array([[0.1234567, 200.0]])
    probability, deviation = np.array([[0.25, 0.75]]), np.array([[0.0, 0.125]])
    labels = ("background", "LV blood pool")
    write_answers(tmp_path / "a.csv", points, image, probability, None, labels)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "x,y,z,t,intensity_0,intensity_1,label,p_background,p_lv-blood-pool",
        "1,2,3,0.5,0.123457,200,LV blood pool,0.2500,0.7500",
    ]
    write_answers(tmp_path / "b.csv", points, image[:, :1], probability, deviation, labels)
    assert (tmp_path / "b.csv").read_text().splitlines() == [
        "x,y,z,t,intensity,label,p_background,p_lv-blood-pool,std_background,std_lv-blood-pool",
        "1,2,3,0.5,0.123457,LV blood pool,0.2500,0.7500,0.0000,0.1250",
    ]


def test_help_names_the_subject(capsys):
    with pytest.raises(SystemExit) as left:
        main(["render", "--help"])
    assert left.value.code == 0
    assert "SUBJECT" in capsys.readouterr().out
