import os
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from nisf.data.anatomy import load_anatomy
from nisf.data.geometry import Affine
from nisf.data.region import Region
from nisf.errors import NisfError
from nisf.kinds.image.model import ImageSubject
from nisf.kinds.load import load_prior
from nisf.networks.canvas import Canvases
from nisf.phantom import label as true_label
from nisf.phantom import long_axis as true_view
from nisf.phantom.cohort import subject
from nisf.phantom.heart import axes
from nisf.subject.views import box_grid, long_axis, view_plane

DATA = Path(os.environ.get("NISF_DATA", Path(__file__).parents[3] / "shared" / "data"))
ANATOMY = load_anatomy("cardiac-sax")
NO_CANVASES = Canvases(torch.zeros(0, 1, 2, 2), torch.zeros(0, 3, 4), np.zeros(0))


@pytest.mark.parametrize("turn", [0.0, 0.2, -0.4])
def test_long_axis_of_half_an_ellipsoid(turn):
    direction = np.array([np.sin(turn), 0.0, np.cos(turn)])
    grid = np.stack(np.meshgrid(*[np.arange(-70, 71, 2.5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    along = grid @ direction
    around = np.linalg.norm(grid - along[:, None] * direction, axis=1)
    inside = ((around / 25) ** 2 + (along / 60) ** 2 < 1) & (along > -20)
    middle, found = long_axis(grid[inside], np.array([0.0, 0.0, 1.0]))
    assert found @ direction > np.cos(np.deg2rad(2))
    assert np.linalg.norm(middle - (middle @ direction) * direction) < 1.0


def test_the_apex_is_found_in_every_labelled_heart():
    """All of ACDC is stored base first."""
    files = sorted((DATA / "acdc").glob("patient*/*_gt.nii.gz"))
    if not files:
        pytest.skip(f"no ACDC masks under {DATA / 'acdc'}; set NISF_DATA")
    for path in files:
        image = nib.load(path)
        spacing, mask = np.array(image.header.get_zooms()[:3]), np.asarray(image.dataobj)
        shape = np.round(mask.shape * spacing / 4).astype(int)
        nearest = [
            np.clip(np.round((np.arange(size) + 0.5) * 4 / mm - 0.5), 0, count - 1).astype(int)
            for size, mm, count in zip(shape, spacing, mask.shape, strict=True)
        ]
        label = mask[np.ix_(*nearest)]
        cavity, whole = np.argwhere(label == 3) * 4.0, np.argwhere(label > 0) * 4.0
        assert long_axis(cavity, np.array([0.0, 0.0, 1.0]), whole)[1][2] > 0, path.name


def stub(heart, without=()):
    """A fitted subject that answers with the phantom's truth, some structures left out."""

    class Truth(ImageSubject):
        def render(self, grid, **_):
            places = grid.points().reshape(-1, 3)
            answers = [true_label(heart, places, float(t)).reshape(grid.shape) for t in grid.times]
            label = np.stack(answers, -1)
            for name in without:
                label[label == ANATOMY.labels.index(name)] = 0
            return SimpleNamespace(label=label)

    # Slices run from base to apex, planned 15 degrees off the axis.
    turn = np.array([[np.cos(0.26), 0, np.sin(0.26)], [0, 1, 0], [-np.sin(0.26), 0, np.cos(0.26)]])
    pose = Affine.rigid(turn @ axes(heart), np.asarray(heart.centre_mm))
    region = Region(pose, np.array([80.0, 80.0, 70.0]))
    return Truth("stub", load_prior("cardiac-sax"), region, (), canvases=NO_CANVASES)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["4ch", "2ch"])
def test_views_of_phantoms(seed, name):
    heart = subject(seed, 0)[0]
    plane = view_plane(stub(heart), ANATOMY.views[name], time=0.1)
    expected = true_view(heart, name)
    cosine = abs(plane.affine.axes[:, 2] @ expected.affine.axes[:, 2])
    assert cosine > np.cos(np.deg2rad(8))
    to_right, _, apex = axes(heart)
    # Apex at the top; the right ventricle at the left.
    assert plane.affine.axes[:, 1] @ apex < -np.cos(np.deg2rad(8))
    if name == "4ch":
        assert plane.affine.axes[:, 0] @ to_right < -np.cos(np.deg2rad(12))
    offset = abs((plane.centre() - np.asarray(heart.centre_mm)) @ expected.affine.axes[:, 2])
    assert offset < 4


def test_a_missing_structure_is_named():
    heart = subject(0, 0)[0]
    fitted = stub(heart, without=["RV blood pool"])
    with pytest.raises(NisfError, match="RV blood pool"):
        view_plane(fitted, ANATOMY.views["4ch"])


def test_box_covers_the_region():
    region = Region(Affine.rigid(np.eye(3), np.array([1.0, 2.0, 3.0])), np.array([10.0, 10.0, 20.0]))
    fitted = ImageSubject("box", load_prior("cardiac-sax"), region, (), canvases=NO_CANVASES)
    grid = box_grid(fitted, (2.0, 2.0, 4.0))
    assert grid.shape == (10, 10, 10)
    np.testing.assert_allclose(grid.centre(), [1, 2, 3])
    assert region.contains(grid.points()).all()
