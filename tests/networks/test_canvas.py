import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import toys
from nisf.config.schema import ImageConfig
from nisf.data.geometry import Affine
from nisf.data.region import Region, reference_pose
from nisf.networks.canvas import blur_sigma, canvas_mm, canvases, plane_of, resample, smoothed

CONFIG = ImageConfig(pixels=32, pixel_mm=4.0)


def box(case, centre, half=(60.0, 60.0, 60.0)):
    return Region(reference_pose(case, centre), np.array(half))


@given(st.integers(0, 100))
def test_plane_measures_millimetres(seed):
    axes = toys.rotation(seed)
    case = toys.toy_case(0, toys.toy_grid(axes=axes, centre=(5.0, -3.0, 8.0)))
    item = case.slices[3]
    plane = plane_of(item)
    place = np.array([[2.0, 5.0, 0.0], [2.0, 5.0, 1.0]])
    np.testing.assert_allclose(plane(item.affine(place)), [[8.0, 20.0, 0.0], [8.0, 20.0, 10.0]], atol=1e-9)


@given(st.integers(0, 100), st.sampled_from([(1.0, 1.0, 1.0), (-1.0, 1.0, 1.0), (1.0, -1.0, -1.0)]))
def test_maps_and_images_agree(seed, flips):
    """A canvas pixel whose place is a voxel centre holds that voxel's normalised intensity."""
    axes = toys.rotation(seed) * np.array(flips)
    # Spacing equals the canvas's pixels, so that voxel centres can fall on canvas pixels.
    case = toys.toy_case(seed, toys.toy_grid(axes=axes, centre=(5.0, -3.0, 8.0)))
    item = case.slices[2]
    centre = item.affine(np.array([12.5, 10.5, 0.0]))
    region = box(case, centre)
    seen = canvases(case, case.slices, region, CONFIG)
    assert seen.images.shape == (12, 1, 32, 32)
    voxels = np.array([[8.0, 9.0, 0.0], [15.0, 12.0, 0.0], [3.0, 20.0, 0.0]])
    model = region.pose(item.affine(voxels))
    u, v, d = (seen.maps[2, :, :3].numpy() @ model.T + seen.maps[2, :, 3:].numpy()).round(3)
    assert np.abs(d).max() < 1e-3
    image = case.stacks[0].normalise(item.image)[..., 0]
    expected = image[voxels[:, 0].astype(int), voxels[:, 1].astype(int)]
    np.testing.assert_allclose(seen.images[2, 0][u.astype(int), v.astype(int)], expected, atol=2e-3)


def test_centre_of_the_canvas_is_the_regions():
    case = toys.toy_case(0)
    seen = canvases(case, case.slices, box(case, (7.0, -2.0, 3.0)), CONFIG)
    middle = seen.maps[:, :2, 3]
    assert torch.allclose(middle, torch.full_like(middle, 15.5))
    np.testing.assert_allclose(seen.maps[:6, 2, 3], [28.0, 18.0, 8.0, -2.0, -12.0, -22.0], atol=1e-5)


def test_resample_is_linear_and_dark_outside():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    places = torch.tensor([[[[1.0, 2.0], [0.5, 0.0], [0.0, 2.25], [-3.0, 0.0]]]])
    torch.testing.assert_close(resample(image, places)[0, 0, 0], torch.tensor([6.0, 2.0, 2.25, 0.0]))


def test_canvas_mm_is_centred():
    offsets = canvas_mm(CONFIG)
    assert torch.equal(offsets[0, 0], torch.tensor([-62.0, -62.0]))
    assert torch.equal(offsets[31, 0], torch.tensor([62.0, -62.0]))


def test_blur_follows_the_average_over_a_coarse_pixel():
    np.testing.assert_allclose(blur_sigma((1.0, 0.5, 2.0, 3.0), 2.0), [0.4, 1.2, 0.0, 0.0])
    factor = np.linspace(1, 20, 400)
    sigma = blur_sigma(1 / factor, 1.0)
    average = np.sqrt((factor**2 - 1) / 12)
    assert np.abs(sigma - average)[factor <= 4].max() < 0.13
    assert (sigma > average)[factor > 4].all()
    assert (sigma <= (factor - 1) / 2).all()
    assert (sigma <= np.sqrt(factor**2 - 1) / 2.355).all()


@pytest.mark.parametrize(("spacing", "same"), [((1.5, 1.5, 8.0), True), ((0.7, 0.7, 8.0), False)])
def test_fine_images_are_averaged(spacing, same):
    image = np.random.default_rng(0).normal(size=(40, 40, 1)).astype(np.float32)
    out = smoothed(image, spacing, 1.5)
    assert (out is image) == same
    assert out.std() <= image.std()
    assert out.mean() == pytest.approx(image.mean(), abs=0.02)


def test_affine_in_millimetres_needs_no_right_hand():
    """A left-handed slice is mirrored on its canvas, as in its file."""
    case = toys.toy_case(0, toys.toy_grid(axes=np.diag([-1.0, 1.0, 1.0])))
    plane = plane_of(case.slices[0])
    assert isinstance(plane, Affine)
    np.testing.assert_allclose(plane.matrix[0, :3], [-1, 0, 0])


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_shown(frames):
    case = toys.toy_case(0, toys.toy_grid((8, 8, 2), frames))
    seen = canvases(case, case.slices, box(case, (0.0, 0.0, 0.0)), CONFIG)
    words = "1 frame" if frames == 1 else f"{frames} frames"
    assert toys.shown(seen) == f"Canvases({2 * frames} slices, 1 channel, 32 x 32 pixels, {words})"
