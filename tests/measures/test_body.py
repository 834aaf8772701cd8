import pytest

from nisf.errors import BadFileError, BadSettingError
from nisf.measures.body import body_surface_m2, checked_m2, read_bodies, surface_of


def test_mosteller():
    assert body_surface_m2(180.0, 80.0) == pytest.approx(2.0)


def table(tmp_path, text):
    path = tmp_path / "bodies.csv"
    path.write_text(text)
    return path


def test_a_table_of_either_kind(tmp_path):
    path = table(tmp_path, "case,bsa_m2,height_cm,weight_kg\na,1.9,,\nb,,180,80\nc,,,\n")
    assert read_bodies(path) == pytest.approx({"a": 1.9, "b": 2.0})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("case,height_cm\na,180\n", "give the columns"),
        ("name,bsa_m2\na,1.9\n", "has no column 'case'"),
        ("case;bsa_m2\na;1,9\n", "separated by semicolons"),
        ("case,bsa_m2\na,1,9\n", "line 2 has more cells than there are columns; write decimals with a point"),
        ('case,bsa_m2\na,"1,9"\n', "a: bsa_m2 is '1,9'; give a number with a decimal point"),
        ("case,bsa_m2\na,1.9\na,1.8\n", "line 3 is a second one for a"),
        ("case,height_cm,weight_kg\na,180,\n", "a: has height_cm but no weight_kg; fill in both"),
        ("case,height_cm,weight_kg\na,,80\n", "a: has weight_kg but no height_cm"),
        ("case,bsa_m2\na,tall\n", "bsa_m2 is 'tall'"),
        ("case,bsa_m2\na,19\n", "0.1 to 4"),
        ("case,height_cm,weight_kg\na,1.80,80\n", "height in cm"),
        ("case,bsa_m2\na,nan\n", "0.1 to 4"),
    ],
)
def test_a_table_that_cannot_be_true(tmp_path, text, says):
    with pytest.raises((BadFileError, BadSettingError), match=says):
        read_bodies(table(tmp_path, text))


def test_no_table(tmp_path):
    with pytest.raises(BadFileError, match="cannot be read"):
        read_bodies(tmp_path / "none.csv")


def test_values_by_hand():
    assert checked_m2(1.8, "--bsa") == 1.8
    with pytest.raises(BadSettingError, match="--bsa 180"):
        checked_m2(180.0, "--bsa")
    with pytest.raises(BadSettingError, match="weight in kg"):
        surface_of(180.0, 80000.0, "--height and --weight")
