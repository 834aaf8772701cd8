import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.data.geometry import Grid
from nisf.prior.fit import fit
from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Frame, empty_rendering


@pytest.fixture(scope="module")
def subject(toy_image_prior):
    case = toys.toy_case(0, toys.toy_grid(frames=6))
    found = fit(case, toy_image_prior, find="centre")
    # Features averaged over time, and blank slices at the ends, as in a padded cine.
    field = copy.deepcopy(found.prior.field)
    field.image = replace(field.image, time_sigma=0.1)
    stack = replace(found.stacks[0], ends=(1, 4))
    prior = replace(found.prior, field=field)
    return replace(found, prior=prior, stacks=(stack, *found.stacks[1:]), islands="remove")


def test_a_grid_is_answered_as_its_places_are(subject):
    grid = subject.stacks[0].grid
    quick = subject.render(probabilities=True)
    slow = empty_rendering(
        grid, subject.answers.channels, subject.answers.classes, probabilities=True, deviations=False
    )
    for t, time in enumerate(grid.times):
        for k in range(grid.shape[2]):
            frame = Frame(slow, t, subject.stacks[0])
            Answerer.fill_slice(subject.answers, frame, grid, k, float(time), memory_mb=512)
    assert (quick.label > 0).sum() > 0
    np.testing.assert_allclose(quick.image, slow.image, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(quick.probability, slow.probability, atol=1e-5)
    np.testing.assert_array_equal(quick.label, quick.probability.argmax(-1))
    assert not quick.label[:, :, [0, 5]].any()
    assert not quick.image[:, :, [0, 5]].any()


def test_the_bits_do_not_depend_on_the_threads(subject):
    finer = subject.stacks[0].grid.with_frames(9)
    for grid in (None, Grid(finer.shape, finer.affine, finer.times[1:])):
        renderings = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            try:
                # A subject that has encoded nothing yet.
                renderings.append(replace(subject).render(grid, probabilities=True))
            finally:
                torch.set_num_threads(1)
        one, three = renderings
        for name in ("image", "label", "probability"):
            np.testing.assert_array_equal(getattr(one, name), getattr(three, name))
