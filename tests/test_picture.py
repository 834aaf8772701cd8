"""Pictures: what is black and white, which way is up, and which colours classes have."""

from dataclasses import replace

import numpy as np
import pytest

from nisf import picture
from nisf.data.geometry import Affine, Grid
from nisf.picture import Panel, draw_panel, new_figure
from nisf.subject.rendering import Rendering
from toys import ANATOMY


def drawn(panel):
    axes = new_figure(2, 2).subplots()
    draw_panel(axes, panel, ANATOMY)
    return axes


@pytest.mark.parametrize(
    ("image", "vmax", "limits"),
    [
        (np.linspace(10, 110, 1001).reshape(7, 143), None, (0, 109.5)),
        (np.linspace(-1000, 0, 1001).reshape(7, 143), None, (-995, -5)),  # CT of lungs
        (np.linspace(10, 110, 1001).reshape(7, 143), 50.0, (0, 50)),
        (np.zeros((4, 4)), None, (0, 1e-6)),
    ],
)
def test_black_and_white(image, vmax, limits):
    assert drawn(Panel("", image, vmax=vmax)).images[0].get_clim() == pytest.approx(limits)


def test_the_first_axis_runs_to_the_right_and_the_second_down():
    image, label = np.zeros((3, 5)), np.zeros((3, 5), dtype=int)
    image[2, 1], label[2, 1] = 7.0, 1
    axes = drawn(Panel("", image, label=label, spacing=(1.0, 2.0)))
    grey, colours = (np.asarray(found.get_array()) for found in axes.images)
    assert grey.shape == (5, 3)
    assert grey[1, 2] == 7
    assert axes.images[0].origin == "upper"
    assert axes.get_aspect() == 2
    # Half transparent red where the class is, nothing elsewhere.
    np.testing.assert_allclose(colours[1, 2], [1, 0, 0, 0.5])
    assert colours[..., 3].sum() == 0.5


@pytest.mark.parametrize(
    ("phases", "times", "titles"),
    [
        (None, [0.0], [""]),
        (None, [0.0, 0.5], ["t = 0.00", "t = 0.50"]),
        ({"by": "blood"}, [0.0], ["t = 0.00"]),
    ],
)
def test_a_static_plane_has_no_time(phases, times, titles, monkeypatch, tmp_path):
    panels = []
    monkeypatch.setattr(picture, "montage", lambda rows, *_: panels.extend(rows))
    shape = (4, 3, 1, len(times))
    rendering = Rendering(
        Grid((4, 3, 1), Affine(np.eye(4)), np.array(times)),
        np.zeros((*shape, 1), np.float32),
        np.zeros(shape, np.uint8),
    )
    picture.plane_picture(rendering, replace(ANATOMY, phases=phases), tmp_path / "a.png")
    assert [panel.title for panel in panels[0]] == titles
