"""The list of cases: few are open, the one that was used last among them."""

from collections import OrderedDict

import pytest

from nisf.errors import BadSettingError
from nisf.view.library import MOST_OPEN, Entry, Library
from nisf.view.viewed import Viewed


@pytest.fixture
def library(toy_seen):
    def opened():
        yield Viewed(*toy_seen)

    return Library([Entry(f"toy{k}", opened) for k in range(MOST_OPEN + 1)])


def is_open(library, number):
    try:
        return bool(library.viewed(number))
    except BadSettingError:
        return False


def test_the_case_that_was_used_longest_ago_is_closed(library):
    for number in (0, 1):
        *_, last = library.opening(number)
        assert last.header["name"] == "toy99"
    library.viewed(0)
    list(library.opening(2))
    assert [is_open(library, number) for number in (0, 1, 2)] == [True, False, True]
    with pytest.raises(BadSettingError, match="no longer open"):
        library.viewed(1)
    with pytest.raises(BadSettingError, match="no such case"):
        list(library.opening(3))


def test_a_case_that_is_closed_while_it_is_looked_up_is_still_answered(library):
    list(library.opening(0))

    class Closing(OrderedDict):
        def get(self, key):
            return self.pop(key)

    library._open = Closing(library._open)
    assert library.viewed(0).subject.name == "toy99"
