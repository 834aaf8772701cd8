import numpy as np
import pytest

from nisf.data.wording import counted, first_few, listed, mm, place_mm, sizes, such


def test_sizes_and_lengths():
    assert sizes((216, 256, 10)) == "216 x 256 x 10"
    assert mm((1.5625, 1.5625, 8.0)) == "1.562 x 1.562 x 8 mm"
    assert mm(np.array([1e-9, 1, np.nan])) == "1e-09 x 1 x nan mm"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((0.0, -0.0, -0.04), "(0, 0, 0) mm"),
        ((1234.56, -12.34, 0.25), "(1234.6, -12.3, 0.2) mm"),
        (np.array([100.0, 7, -500]), "(100, 7, -500) mm"),
    ],
)
def test_places(place, words):
    assert place_mm(place) == words


def test_counts():
    assert [counted(n, "frame") for n in (0, 1, 30)] == ["0 frames", "1 frame", "30 frames"]


def test_some_of_many():
    assert first_few([]) == ""
    assert first_few(list("abcde")) == "a, b, c, d, e"
    assert first_few(list("abcdef")) == "a, b, c, d, e, ..."
    assert [such(n, "case") for n in (1, 3)] == ["", " (3 such cases)"]


def test_listed():
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
