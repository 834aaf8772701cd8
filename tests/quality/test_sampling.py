"""Answers where a frame was measured, paired with its pixels."""

from dataclasses import replace

import numpy as np
import pytest

from nisf.alignment import Shift
from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.phantom import Heart, Scanner, scan
from nisf.quality.sampling import places_of, sample_frame
from true_subjects import true_heart, true_subject


def test_slices_that_breathing_moved_are_paired_with_what_they_show(monkeypatch):
    heart, scanner = Heart(), replace(Scanner(matrix=(64, 64), spacing_mm=3.0, frames=1), shift_mm=0.0)
    case, subject = scan(heart, scanner).case, true_heart(heart, 1, scanner)
    monkeypatch.setattr(type(subject), "signature", lambda *_: None)  # the truth has no features
    moved = (8.0, -5.0)
    shifts = tuple(
        Shift(0, k, moved if k % 2 else (0.0, 0.0)) for k in range(subject.stacks[0].grid.shape[2])
    )
    shifted = replace(subject, shifts=shifts)
    places = places_of(shifted)
    found, still = (sample_frame(one, case, 0, places).raw for one in (shifted, subject))
    x, y = places.window
    (i, j), label = places.step, shifted.render().label[..., 0]
    np.testing.assert_array_equal(found, label[x, y][::i, ::j])
    assert (found[:, :, 1::2] != still[:, :, 1::2]).any()
    np.testing.assert_array_equal(found[:, :, ::2], still[:, :, ::2])


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_are_sampled_as_densely_as_the_region_is_long(turned):
    half = np.array([80.0, 30.0, 20.0])
    grid = Grid((200, 200, 5), Affine.scaling((1.0, 1.0, 8.0)))
    axes = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) if turned else np.eye(3)
    region = Region(Affine.rigid(axes, (100.0, 100.0, 16.0)), half)
    subject = true_subject(lambda world, _: np.zeros(len(world), dtype=np.int64), region, Stack("sa", grid))
    places = places_of(subject)
    step, count = (places.step[::-1], places.count[::-1]) if turned else (places.step, places.count)
    assert step == (3, 1)
    assert count == (54, 61)
