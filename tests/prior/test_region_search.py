"""A box that is off is moved to what was drawn in it."""

from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.case import Case, Stack, intensity_range, slices_of_volume
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region, reference_pose, region_from_labels, whole_region
from nisf.kinds.image.model import ImageSubject
from nisf.kinds.load import load_prior
from nisf.phantom import Scanner, cohort
from nisf.prior.fit import fit
from nisf.prior.region_search import RegionSearch, recentred

HALF = np.array([60.0, 60.0, 40.0])


def box(centre):
    case = toys.toy_case(0, toys.toy_grid())
    return Region(reference_pose(case, np.array(centre)), HALF)


def block(region, centre):
    """World mm of a block of 30 mm about a place in the model's mm."""
    sides = [np.linspace(-15, 15, 7) + middle for middle in centre]
    places = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    return region.pose.inverse(places)


def around(region, *, half=90.0):
    """World mm of the corners of an image about the region."""
    ends = np.meshgrid(*[(-half, half)] * 3)
    return region.pose.inverse(np.stack(ends, axis=-1).reshape(-1, 3))


@pytest.mark.parametrize("centre", [(-35.0, 5.0, 3.0), (2.0, 45.0, -8.0)])
def test_it_moves_in_the_plane_to_what_was_drawn(centre):
    region = box((3.0, -7.0, 20.0))
    moved = recentred(region, block(region, centre), around(region))
    assert moved is not None
    np.testing.assert_allclose(moved.centre(), region.pose.inverse(np.array([*centre[:2], 0.0])), atol=1e-6)
    np.testing.assert_allclose(moved.pose.matrix[:3, :3], region.pose.matrix[:3, :3])
    np.testing.assert_array_equal(moved.half, HALF)
    assert recentred(moved, block(region, centre), around(region)) is None


def test_it_stays_where_the_middle_is_near_or_nothing_was_drawn():
    region = box((0.0, 0.0, 0.0))
    assert recentred(region, block(region, (15.0, -19.0, 30.0)), around(region)) is None
    assert recentred(region, np.zeros((0, 3)), around(region)) is None


def test_it_stays_in_an_image_that_ends_within_the_box():
    """Nothing can have been cut off there: small images are not centred on what is in them."""
    region = box((0.0, 0.0, 0.0))
    drawn = block(region, (40.0, 35.0, 0.0))
    assert recentred(region, drawn, around(region, half=55.0)) is None
    # Beyond one side alone there is something.
    longer = region.pose(around(region, half=55.0))
    longer[longer[:, 0] > 0, 0] = 85.0
    longer = region.pose.inverse(longer)
    moved = recentred(region, drawn, longer)
    assert moved is not None
    np.testing.assert_allclose(moved.centre(), region.pose.inverse(np.array([40.0, 0.0, 0.0])), atol=1e-6)


def test_a_subject_is_looked_at_again_only_where_its_region_was_off(toy_image_prior, monkeypatch):
    case = toys.toy_case(0, toys.toy_grid(frames=2))
    first = fit(case, toy_image_prior, find="centre")
    region = Region(first.region.pose, first.region.half * (0.6, 0.6, 1.0))  # the image reaches beyond it
    monkeypatch.setattr(RegionSearch, "find", lambda *_: (region, "finder"))
    first = fit(case, toy_image_prior, region=region)
    kept = fit(case, toy_image_prior)
    assert kept.region is not None
    np.testing.assert_array_equal(kept.region.pose.matrix, region.pose.matrix)
    np.testing.assert_array_equal(
        kept.render(probabilities=True).probability, first.render(probabilities=True).probability
    )
    shift = np.array([0.5 * region.half[0], 0.0, 0.0])
    monkeypatch.setattr(ImageSubject, "drawn_places", lambda s: block(s.region, shift))
    again = fit(case, toy_image_prior)
    np.testing.assert_allclose(again.region.centre(), region.pose.inverse(shift), atol=1e-6)
    given = fit(case, toy_image_prior, region=replace(region))
    np.testing.assert_array_equal(given.region.pose.matrix, region.pose.matrix)


def test_what_was_encoded_for_the_look_is_not_encoded_again(toy_image_prior, monkeypatch):
    case = toys.toy_case(0, toys.toy_grid(frames=2))
    region = fit(case, toy_image_prior, find="centre").region
    monkeypatch.setattr(RegionSearch, "find", lambda *_: (region, "finder"))
    subject = fit(case, toy_image_prior)
    assert subject.encoded is not None
    assert subject.scenes is subject.encoded
    assert subject.noted(summary={}).scenes is subject.encoded
    assert subject.noted(summary={}).summary == {}
    assert fit(case, toy_image_prior, region=region).noted(summary={}).encoded is None


def of_volume(image, spacing, labels):
    """A case of one stack of a volume (x, y, z)."""
    grid = Grid(image.shape, Affine.scaling(spacing), np.zeros(1))
    image = image[..., None, None].astype(np.float32)
    stack = Stack("sa", grid, intensity_range=intensity_range(image))
    return Case("case", (stack,), slices_of_volume(image, None, grid), labels)


@pytest.mark.parametrize("matrix", [(112, 112), (80, 80)])
def test_the_default_model_finds_phantoms_of_small_fields_of_view(matrix):
    scanner = Scanner(frames=1, matrix=matrix)
    prior = load_prior("cardiac-sax")
    for scan in cohort(2, 21, scanner):
        assert prior.search.doubts(scan.case, whole_region(scan.case))[0] > 0.7
        region, how = prior.search.find(scan.case)
        assert how == "finder"
        truth = region_from_labels(scan.case, region.half, order=False)
        assert np.hypot(*region.pose(truth.centre())[:2]) < 25


def test_the_default_model_finds_nothing_in_noise_and_ramps():
    prior, rng = load_prior("cardiac-sax"), np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0, 1, 112)[:, None, None], (112, 112, 8))
    images = {
        "noise of 5 mm": (rng.random((64, 64, 10)), (5.0, 5.0, 10.0)),
        "noise of 1.5 mm": (np.abs(rng.standard_normal((128, 128, 8))), (1.5, 1.5, 10.0)),
        "ramp": (ramp + 0.02 * rng.standard_normal(ramp.shape), (1.8, 1.8, 10.0)),
    }
    for name, (image, spacing) in images.items():
        case = of_volume(image, spacing, prior.anatomy.labels)
        assert prior.search.doubts(case, whole_region(case))[0] < 0.3, name
