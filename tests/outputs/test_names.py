"""Names of files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nisf.outputs import collisions, file_stem, file_words, is_file_stem


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("patient001", "patient001"),
        ("c[1]", "c[1]"),
        ("Müller 3", "Müller 3"),
        ("心臓", "心臓"),
        ("../x", "_._x"),
        ("a/b\\c", "a_b_c"),
        ("a\nb\x1b[31m", "a_b_[31m"),
        ("-rf", "_rf"),
        (".hidden", "_hidden"),
        ("=1+1", "_1+1"),
        ("", "_"),
        ("..", "__"),
        ("x.", "x_"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("a\u202eb", "a_b"),
    ],
)
def test_known_names(text, name):
    assert file_stem(text) == name
    assert is_file_stem(text) == (text == name)


@given(st.text())
def test_every_name_is_one_part_of_a_path_and_stays_as_it_is(text):
    name = file_stem(text)
    assert name
    assert len(name.encode()) <= 120
    assert not set(name) & set('/\\:\0\n\r\t"*?<>|')
    assert name[0] not in "-.=+@ "
    assert name not in (".", "..")
    assert is_file_stem(name)


def test_long_names_stay_apart():
    names = {file_stem("x" * 500 + str(n)) for n in range(10)}
    assert len(names) == 10


def test_words():
    assert file_words(("background", "LV blood pool")) == ["background", "lv-blood-pool"]
    assert file_words(("背景", "左室", "右室")) == ["背景", "左室", "右室"]
    assert file_words(("A", "a", "!", "?", "a_b")) == ["a", "a-1", "label", "label-3", "a-b"]


def test_collisions():
    assert collisions({"a": ["x", "y"], "b": ["z", "X"]}) == {"X": ("a", "b")}
    assert collisions({"a": ["x", "x"]}) == {"x": ("a", "a")}
    assert collisions({"a": ["x"], "b": ["y"]}) == {}
