"""The tables of points: what is read, what is refused, and how answers are written."""

import numpy as np
import pytest

from nisf.cli.point_tables import read_points, write_answers
from nisf.errors import BadFileError


@pytest.fixture
def points(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("x,y,z,t\n0,0,0,0.25\n5,-5,10,\n")
    return path


def test_empty_cells_beyond_the_columns_are_nothing(tmp_path):
    """As spreadsheets write them."""
    path = tmp_path / "points.csv"
    path.write_text("x,y,z,t\n1,2,3,0.5,\n4,5,6,,,\n")
    assert read_points(path).tolist() == [[1, 2, 3, 0.5], [4, 5, 6, 0]]


def test_points_are_read_with_and_without_times(points, tmp_path):
    np.testing.assert_array_equal(read_points(points), [[0, 0, 0, 0.25], [5, -5, 10, 0]])
    (tmp_path / "still.csv").write_text("name,z,y,x\na,1,2,3e1\n")
    np.testing.assert_array_equal(read_points(tmp_path / "still.csv"), [[30, 2, 1, 0]])
    (tmp_path / "spaces.csv").write_text("x, y, z, t\n30, 2, 1, 0.5\n")
    np.testing.assert_array_equal(read_points(tmp_path / "spaces.csv"), [[30, 2, 1, 0.5]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y\n1,2\n", "needs the columns x,y,z"),
        ("x,y,z\n1,2,left\n", "needs the columns x,y,z.*left"),
        ("x,y,z\n", "contains no points"),
        ("x,y,z\n1,2,inf\n", "contains no points, or coordinates that are not finite"),
        (
            "x,y,z,t\n1,2,3,0.5\n\n1,2,3,350\n",
            "t is 350 in line 4; give a fraction of the cycle",
        ),
        ("x,y,z\n1,2\n", "contains no points, or coordinates that are not finite"),
        ("x,y,z,time\n1,2,3,0.5\n", "the column 'time' is not read; name it t"),
        ("x,y,z,T\n1,2,3,0.5\n", "the column 'T' is not read"),
        ("x,y,z\n1,5,2,5,3,0\n", "line 2 has more cells than there are columns; write decimals with a point"),
        ("x,y,z,x\n1,2,3,4\n", "has two columns 'x'"),
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
