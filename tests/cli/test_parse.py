"""Numbers of options: what is parsed, and what is said of the rest."""

import pytest

from nisf.cli.parse import numbers
from nisf.errors import BadSettingError


def test_numbers():
    assert numbers("1,-2,3e1", 3, "--centre") == [1.0, -2.0, 30.0]
    assert numbers("0.5", None, "--time") == [0.5]
    assert numbers("0,0.5", None, "--time") == [0.0, 0.5]


@pytest.mark.parametrize(
    ("text", "count", "positive", "said"),
    [
        ("nan", None, False, "give finite numbers separated by commas, without spaces"),
        ("0.1,inf", None, False, "give finite numbers separated by commas, without spaces"),
        ("soon", None, False, "give numbers separated by commas, without spaces"),
        ("", None, False, "give numbers separated by commas, without spaces"),
        ("1,2", 1, True, "give one positive number"),
        ("0", 1, True, "give one positive number"),
        ("nan", 1, True, "give one finite positive number"),
        ("1,2", 3, False, "give 3 numbers separated by commas, without spaces"),
        ("1,2,inf", 3, True, "give 3 finite positive numbers separated by commas, without spaces"),
        ("1,2,-3", 3, True, "give 3 positive numbers separated by commas, without spaces"),
    ],
)
def test_what_are_no_such_numbers(text, count, positive, said):
    with pytest.raises(BadSettingError) as caught:
        numbers(text, count, "--x", positive=positive)
    assert str(caught.value) == f"--x {text}: {said}"
