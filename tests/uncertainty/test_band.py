"""The band around a curve: the measures' own intervals at their phases, mixed by volume between them."""

from __future__ import annotations

import numpy as np
import pytest

from nisf.uncertainty.band import Anchor, half_width
from nisf.uncertainty.scale import Scale


def test_at_a_phase_it_is_the_interval_of_the_measure():
    large, small = Anchor(150.0, Scale(2.0, 3.0)), Anchor(60.0, Scale(1.0, 4.0))
    assert half_width([small, large], 150.0, 4.0) == pytest.approx(2 * 5.0)
    assert half_width([large, small], 60.0, 3.0) == pytest.approx(5.0)


def test_between_phases_it_is_mixed_by_volume():
    anchors = [Anchor(150.0, Scale(2.0, 0.0)), Anchor(50.0, Scale(1.0, 0.0))]
    assert half_width(anchors, 100.0, 4.0) == pytest.approx(6.0)
    assert half_width(anchors, 500.0, 4.0) == pytest.approx(8.0)


def test_a_mass_tells_of_its_volume():
    scale = Scale(1.5, 2.1)
    half = half_width([Anchor(100.0, scale, per_ml=1.05)], 80.0, 3.0)
    assert half * 1.05 == pytest.approx(scale.half_width(3.0 * 1.05))


def test_nothing_is_known_without_a_measure():
    assert np.isnan(half_width([], 80.0, 3.0))
