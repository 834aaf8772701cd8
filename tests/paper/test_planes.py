"""Areas and lengths on long-axis views of a heart whose shape is a closed form."""

from dataclasses import replace

import numpy as np
import pytest

from nisf.errors import NisfError
from nisf.paper.needs import Needs
from nisf.paper.planes import measures, needs, run
from nisf.phantom import Heart
from nisf.subject.views import view_plane
from true_subjects import true_heart

HEART = Heart(centre_mm=(-30.0, 15.0, 40.0), roll_deg=20.0)  # 25 mm in radius, 88 mm from base to apex


@pytest.mark.parametrize("name", ["4ch", "2ch"])
def test_area_and_length_of_a_cut_ellipse(name):
    subject = true_heart(HEART)
    view = subject.prior.anatomy.views[name]
    area, length = measures(subject, view_plane(subject, view), view)
    half, cut = 88 / 1.35, 0.35  # its centre is 35 % of the half axis below the base
    assert area == pytest.approx(
        25 * half * (np.pi / 2 + np.arcsin(cut) + cut * np.sqrt(1 - cut**2)), rel=0.03
    )
    assert length == pytest.approx(88, abs=2.5)


def test_an_anatomy_without_views_needs_nothing(study, monkeypatch):
    assert needs(study).parts
    monkeypatch.setattr(study, "anatomy", replace(study.anatomy, views={}))
    assert needs(study) == Needs()
    assert run(study) is None


def test_a_plane_without_the_structure_is_refused():
    subject = true_heart(HEART)
    view = subject.prior.anatomy.views["4ch"]
    plane = view_plane(subject, view)
    with pytest.raises(NisfError, match="LV blood pool is not on the plane"):
        measures(subject, type(plane)(plane.shape, plane.affine.shifted((0, 0, 60)), plane.times), view)
