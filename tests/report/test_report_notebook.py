import re
from dataclasses import replace

import pytest

from nisf.quality.judgement import Judgement, with_judgement


@pytest.fixture(scope="module")
def hostile(toy_fitted):
    """A subject whose name and reasons are HTML."""
    judged = with_judgement(toy_fitted, Judgement("red", {}, 0.31, ("<script>bad()</script>",)))
    return replace(judged, name="<img src=x onerror=alert(1)>")


def test_a_subject_shows_slices_measures_and_light_and_nothing_runs(hostile):
    text = hostile._repr_html_()
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "predicted Dice 0.31" in text
    assert text.count("<svg") == hostile.stacks[0].grid.shape[2]
    assert re.search(r"Blood volume</td><td class=\"number\">\d", text)
    # Nothing is fetched: pictures are in the text.
    assert all(link.startswith("data:image/") for link in re.findall(r'(?:src|href)="([^"]*)"', text))


def test_a_long_cine_is_not_measured_to_be_shown(toy_fitted):
    stack = toy_fitted.stacks[0]
    cine = replace(stack, grid=stack.grid.with_frames(9))
    text = replace(toy_fitted, stacks=(cine,))._repr_html_()
    assert "9 frames" in text
    assert "Blood volume" not in text
