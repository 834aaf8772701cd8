"""Strokes painted over anyone's answers, and what islands and sections make of them."""

import numpy as np

from nisf.correction.stroke import Stroke
from nisf.data.geometry import Affine, Grid
from nisf.subject.answerer import Answerer
from nisf.subject.islands import around_islands
from nisf.subject.painted import Painted, painted_voxels, said
from nisf.subject.rendering import Answer, Frame, empty_rendering
from nisf.subject.sections import doubtful

LABELS = ("background", "blood", "muscle")
GRID = Grid((16, 12, 4), Affine(np.diag([2.0, 2.0, 8.0, 1.0])), np.array([0.0, 0.5]))

EVEN = np.array([0.5, 0.3, 0.2], dtype=np.float32)


class Even(Answerer):
    """The same probabilities everywhere."""

    def answer(self, position, time, *, memory_mb):  # noqa: ARG002
        n = len(position)
        probability = np.tile(EVEN, (n, 1))
        return Answer(np.ones((n, 1), np.float32), probability, np.ones(n, dtype=bool))


def painted(*strokes):
    return Painted(Even(1, 3), strokes, LABELS)


def test_points_and_grids_agree_and_only_the_covered_change():
    strokes = [
        Stroke(((4.0, 4.0, 8.0), (20.0, 14.0, 8.0)), 0.0, "blood"),
        Stroke(((12.0, 9.0, 8.0),), 0.0, "background", present=False, radius_mm=4.0),
    ]
    answers = painted(*strokes)
    position = GRID.points().reshape(-1, 3)
    for time in GRID.times:
        rendering = empty_rendering(GRID.at_times([time]), 1, 3, probabilities=True, deviations=False)
        answers.fill(Frame(rendering, 0, None), GRID, float(time), memory_mb=64)
        flat = answers.answer(position, np.full(len(position), time), memory_mb=64).probability
        np.testing.assert_array_equal(rendering.probability.reshape(-1, 3), flat)
        changed = (flat != EVEN).any(1).nonzero()[0]
        covered = strokes[0].covers(position) | strokes[1].covers(position)
        np.testing.assert_array_equal(changed, covered.nonzero()[0] if time == 0 else [])
    before = empty_rendering(GRID.at_times([0.5]), 1, 3, probabilities=True, deviations=False)
    answers.fill_slice(Frame(before, 0, None), GRID, 1, 0.5, memory_mb=64)
    assert not before.label[:, :, 1].any()


def test_later_strokes_win():
    place = ((4.0, 4.0, 8.0),)
    answers = painted(Stroke(place, 0.0, "blood"), Stroke(place, 0.0, "muscle"))
    assert answers.answer(np.array(place), np.zeros(1), memory_mb=1).probability[0].tolist() == [0, 0, 1]


def test_what_is_said():
    probability = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(said(probability, 2, present=True), np.eye(3)[[2, 2, 2]])
    np.testing.assert_allclose(
        said(probability, 0, present=False), [[0, 0.6, 0.4], [0, 1, 0], [0, 1, 0]], atol=1e-6
    )
    np.testing.assert_allclose(
        said(probability, 1, present=False), [[5 / 7, 0, 2 / 7], [1, 0, 0], [1, 0, 0]], atol=1e-6
    )


def test_parts_and_sections_with_a_stroke_stay():
    label = np.zeros(GRID.shape, dtype=np.uint8)
    label[2:8, 2:8, 0:2] = 1
    label[12:15, 8:11, 3] = 1
    stroke = Stroke(((26.0, 18.0, 24.0),), 0.0, "blood")
    stays = painted_voxels([stroke], LABELS, GRID, 0.0)
    assert around_islands(label, 3).any()
    assert not around_islands(label, 3, stays).any()

    def unsure(index):
        return np.full((len(index), 3), 0.4)

    assert doubtful(label, (0.9, 0.0), unsure)[:, :, 3].any()
    kept = doubtful(label, (0.9, 0.0), unsure, stays)
    assert not kept[:, :, 3].any()
    assert kept[:, :, 0].any()


def test_no_stroke_says_that_something_is_there():
    place = ((4.0, 4.0, 8.0),)
    absent = Stroke(place, 0.0, "blood", present=False)
    assert painted_voxels([absent, Stroke(place, 0.5, "blood")], LABELS, GRID, 0.0) is None
