import pytest

from nisf.engines import choice
from nisf.engines.choice import Allotment, allotted
from nisf.errors import BadSettingError


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight idle cores, plenty of memory."""
    monkeypatch.setattr(choice, "use_threads", lambda count: 8 if count is None else count)
    monkeypatch.setattr(choice, "available_bytes", lambda: 64_000_000_000)


@pytest.mark.parametrize(
    ("cases", "given", "expected"),
    [
        (1, {}, Allotment(1, 8, 512.0)),
        (7, {}, Allotment(1, 8, 512.0)),
        (8, {}, Allotment(2, 4, 256.0)),
        (1000, {}, Allotment(8, 1, 128.0)),
        (1000, {"threads": 4}, Allotment(4, 1, 128.0)),
        (1000, {"memory_mb": 300.0}, Allotment(2, 4, 150.0)),
        (1000, {"memory_mb": 64.0}, Allotment(1, 8, 64.0)),
        (1000, {"device": "cuda"}, Allotment(1, 8, 512.0)),
        (1000, {"workers": 16}, Allotment(16, 1, 128.0)),
        (3, {"workers": 16}, Allotment(3, 2, 512.0 / 3)),
        (0, {"workers": 2}, Allotment(1, 8, 512.0)),
    ],
)
def test_what_is_free_is_divided(cases, given, expected):
    assert allotted(cases, **given) == expected


def test_memory_bounds_the_workers(monkeypatch):
    monkeypatch.setattr(choice, "available_bytes", lambda: 3_500_000_000)
    assert allotted(1000).workers == 3
    monkeypatch.setattr(choice, "available_bytes", lambda: 10_000_000)
    assert allotted(1000).workers == 1
    monkeypatch.setattr(choice, "available_bytes", lambda: None)
    assert allotted(1000).workers == 8


@pytest.mark.parametrize("given", [{"workers": 0}, {"workers": 5000}, {"workers": 4, "memory_mb": 500.0}])
def test_what_cannot_be(given):
    with pytest.raises(BadSettingError):
        allotted(1000, **given)
