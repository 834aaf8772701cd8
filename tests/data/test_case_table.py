"""Tables that a user gives are read whole, or refused with a reason."""

import pytest

from nisf.data.case_table import number_in, read_case_table
from nisf.errors import BadFileError


def table(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_by_case(tmp_path):
    path = table(tmp_path, '\ufeff case , a,b\np1, 1 ,"x, y"\n\np2,2\n,,\np3,3,4,,\n')
    columns, rows = read_case_table(path)
    assert columns == ["a", "b"]
    assert rows == {"p1": {"a": "1", "b": "x, y"}, "p2": {"a": "2", "b": ""}, "p3": {"a": "3", "b": "4"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("case;a\np1;1\n", "its columns are separated by semicolons; save it with commas"),
        ("case\ta\np1\t1\n", "separated by tabs"),
        ("name,a\np1,1\n", "has no column 'case'"),
        ("", "has no column 'case'"),
        ("case,a\np1,1\np1,2\n", "line 3 is a second one for p1"),
        ("case,a\n,1\n", "line 2 names no case"),
        ("case,a\np1,1,5\n", "line 2 has more cells than there are columns; write decimals with a point"),
        ("case,a,a\np1,1,2\n", "has two columns 'a'"),
        ("case,a\n\np1,1,5\n", "line 3 has more"),
        (f"case,a\n{'x' * 200_000},1\n", "cannot be read as a table"),
    ],
)
def test_what_is_refused(tmp_path, text, says):
    path = table(tmp_path, text)
    with pytest.raises(BadFileError, match=says) as caught:
        read_case_table(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_file(tmp_path):
    with pytest.raises(BadFileError, match="cannot be read as a table"):
        read_case_table(tmp_path / "none.csv")


def test_numbers():
    assert number_in("1.5", "here") == 1.5
    for cell, says in (("1,5", "here is '1,5'; give a number with a decimal point"), ("a", "give a number$")):
        with pytest.raises(BadFileError, match=says):
            number_in(cell, "here")
