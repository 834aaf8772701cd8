"""Stacks that do not say how they lie are brought to the way of the training stacks, their answers back."""

from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.arrangement import in_plane
from nisf.data.case import Case, slices_of_volume
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region, reference_pose
from nisf.prior.fit import fit

CASE = toys.toy_case(99, toys.toy_grid((30, 26, 6)), (9.0, -5.0, 0.0), labelled=False)


def stored(case, way):
    """The case as a file has it that is stored another way and knows only the size of its voxels."""
    moved = case.arranged(way)
    stack = moved.stacks[0]
    grid = Grid(stack.grid.shape, Affine.scaling(stack.grid.spacing), stack.grid.times)
    slices = slices_of_volume(toys.image_of(moved), None, grid)
    return replace(moved, stacks=(replace(stack, grid=grid, oriented=False),), slices=slices)


@pytest.fixture(scope="module")
def prior(toy_image_prior):
    anatomy = replace(toy_image_prior.anatomy, turn=True)
    return replace(toy_image_prior, anatomy=anatomy, orienter=toys.ramp_orienter(3.0))


@pytest.mark.parametrize("find", ["auto", "centre", "whole", "given"])
def test_the_same_answer_in_all_eight_ways(prior, find):
    answers, turned = [], set()
    for way in in_plane():
        case = stored(CASE, way)
        region = None
        if find == "given":
            region = Region(reference_pose(case, case.stacks[0].grid.centre()), np.array([50.0, 50, 30]))
        subject = fit(case, prior, region=region, find="auto" if find == "given" else find)
        assert subject.stacks == case.stacks
        turned.add(subject.summary.get("turned"))
        answers.append(way.undo(subject.render().label))
    assert answers[0].any()
    for answer in answers[1:]:
        assert (answer != answers[0]).mean() < 1e-4  # where two classes are equally probable
    assert turned == {None, "mirrored", "turned by 90 degrees", "turned by 180 degrees"}


def test_what_lies_as_the_training_stacks_is_seen_as_without_an_orienter(prior):
    (case,) = (case for case in (stored(CASE, way) for way in in_plane()) if prior.way(case).changes_nothing)
    found = [fit(case, one).render(probabilities=True) for one in (prior, replace(prior, orienter=None))]
    np.testing.assert_array_equal(found[0].probability, found[1].probability)


def test_nothing_is_turned_that_says_how_it_lies_or_is_to_stay(prior):
    turned = next(
        case for case in (stored(CASE, way) for way in in_plane()) if "turned" in fit(case, prior).summary
    )
    kept = replace(prior.config.fit, as_stored=True)
    subject = fit(turned, prior, config=kept)
    assert "turned" not in subject.summary
    np.testing.assert_array_equal(
        subject.render().label, fit(turned, replace(prior, orienter=None)).render().label
    )
    oriented = replace(turned, stacks=(replace(turned.stacks[0], oriented=True),))
    assert "turned" not in fit(oriented, prior).summary
    one_way = replace(prior, anatomy=replace(prior.anatomy, turn=False))
    assert one_way.way(turned).changes_nothing
    assert prior.way(Case("points", (), turned.slices, turned.labels)).changes_nothing
