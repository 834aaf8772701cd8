import inspect

import numpy as np
import pytest

from nisf.cli import render
from nisf.errors import BadSettingError
from nisf.view import spread
from nisf.view.packets import Packet
from nisf.view.questions import PlaneQuestion
from nisf.view.viewed import Viewed

PLANE = {"centre": [1, 2, 3], "right": [1, 0, 0], "down": [0, 0.6, 0.8], "spacing": 0.7, "time": 0.0}


def test_it_is_the_deviation_that_render_gives(toy_seen):
    viewed = Viewed(*toy_seen)
    for _ in viewed.background.work():
        pass
    asked = PlaneQuestion.read({**PLANE, "view": "a", "width": 61, "height": 41})
    packets = [p for p in viewed.spreads.plane(asked) if isinstance(p, Packet)]
    assert [(p.header["draws"], p.header["final"]) for p in packets] == [(4, False), (16, True)]
    width, height, step = (packets[-1].header[name] for name in ("width", "height", "step"))
    assert (width, height, step) == (31, 21, 2)
    found = np.frombuffer(packets[-1].payload, np.uint8).reshape(height, width) / 255 / 2
    truth = toy_seen[0].render(asked.grid(), samples=16).deviation[::2, ::2, 0, 0].max(-1).T
    assert np.abs(found - truth).max() < 0.005
    assert truth.max() > 0.02


def test_as_many_draws_as_the_command_takes():
    assert spread.DRAWS == render.DRAWS


def test_a_subject_without_draws_says_so(toy_seen):
    viewed = Viewed(*toy_seen)
    viewed.spreads.draws = []
    work = viewed.spreads.plane(PlaneQuestion.read({**PLANE, "view": "a", "width": 9, "height": 9}))
    assert inspect.isgenerator(work)
    with pytest.raises(BadSettingError, match="no draws"):
        next(work)
