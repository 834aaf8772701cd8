import pytest

from nisf.engines.shard import Shard, parsed
from nisf.errors import BadSettingError
from nisf.io.readers.listing import CaseFiles


def cases(*names):
    return [CaseFiles(name, "flat", ()) for name in names]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 30])
def test_each_case_is_in_one_shard(count):
    cohort = cases(*(f"case{k:02d}" for k in range(23)))
    parts = [Shard(number, count).cases(cohort) for number in range(1, count + 1)]
    assert sorted(files.name for part in parts for files in part) == [files.name for files in cohort]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_order_of_the_listing_does_not_matter():
    assert Shard(1, 2).cases(cases("b", "c", "a")) == cases("a", "c")


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/2", "1.5/4", "²/4"])
def test_what_is_no_shard(text):
    with pytest.raises(BadSettingError, match="give NUMBER/COUNT"):
        parsed(text)


def test_a_shard_by_its_text():
    assert parsed("3/16") == Shard(3, 16)
