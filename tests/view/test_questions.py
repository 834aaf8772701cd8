import numpy as np
import pytest

from nisf.errors import BadSettingError
from nisf.view.questions import PlaneQuestion

GOOD = {
    "view": "a",
    "centre": [1, 2, 3],
    "right": [1, 0, 0],
    "down": [0, 1, 0],
    "spacing": 0.5,
    "width": 5,
    "height": 3,
    "time": 0.25,
}


def test_pixels_lie_where_the_page_draws_them():
    question = PlaneQuestion.read(GOOD)
    found = question.positions(np.array([[2.0, 1.0], [0.0, 1.0], [2.0, 2.0]]))
    assert np.allclose(found, [[1, 2, 3], [0, 2, 3], [1, 2.5, 3]])
    assert question.grid().shape == (5, 3, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("view", "../../etc"),
        ("view", 3),
        ("centre", [1, 2]),
        ("centre", [1, 2, "3"]),
        ("centre", [1, 2, float("nan")]),
        ("right", [2, 0, 0]),
        ("down", [1, 0, 0]),
        ("spacing", 0),
        ("spacing", True),
        ("width", 10**6),
        ("width", 2.5),
        ("width", 10**400),
        ("time", 1.5),
        ("time", None),
    ],
)
def test_nonsense_is_refused_in_a_sentence(name, value):
    with pytest.raises(BadSettingError, match=name):
        PlaneQuestion.read({**GOOD, name: value})
