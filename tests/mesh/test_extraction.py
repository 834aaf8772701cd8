"""Surfaces of a phantom, whose volumes are known, and of priors with islands and without structures."""

from dataclasses import replace

import numpy as np
import pytest

from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.errors import BadSettingError, CannotFitError
from nisf.measures.lattice import Lattice, sample
from nisf.mesh.crossings import crossing_triangles
from nisf.mesh.extraction import meshable, surfaces
from nisf.mesh.series import SeriesOptions, series
from nisf.phantom import label, volumes_ml
from nisf.phantom.cohort import subject as drawn
from nisf.phantom.heart import axes
from nisf.subject.views import box_grid
from true_subjects import true_subject

pytest.importorskip("skimage")


def subject_of(heart, region=None):
    """A subject that answers with a phantom's true labels, sure of everything, without a stack."""
    if region is None:
        region = Region(Affine.rigid(axes(heart), np.asarray(heart.centre_mm)), np.array([75.0, 75.0, 75.0]))
    return true_subject(lambda world, time: label(heart, world, time), region, None)


@pytest.fixture(scope="module")
def heart():
    return drawn(4, 0)[0]


@pytest.fixture(scope="module")
def subject(heart):
    return subject_of(heart)


def test_volumes_of_a_phantom(heart, subject):
    found = surfaces(subject, spacing_mm=2.5, time=0.3)
    truth = volumes_ml(heart, 0.3)
    truth["LV epicardium"] = truth["LV blood pool"] + truth["LV myocardium"]
    assert list(found) == list(truth)
    for name, surface in found.items():
        assert surface.name == name
        assert surface.watertight
        assert surface.volume_ml == pytest.approx(truth[name], rel=0.01)
        assert not len(crossing_triangles(surface))


def test_cut_at_the_end_of_the_region(heart, subject):
    half = np.array([75.0, 75.0, 22.5])
    cut = subject_of(heart, Region(subject.region.pose, half))
    surface = surfaces(cut, ["LV epicardium"], spacing_mm=2.5)["LV epicardium"]
    along = np.abs(cut.region.pose(surface.vertices)[:, 2])
    assert surface.watertight
    assert along.max() == pytest.approx(22.5, abs=0.06)
    grid = box_grid(cut, (1.5, 1.5, 1.5))
    label = cut.render(grid).label[..., 0]
    integrated = np.isin(label, meshable(cut)["LV epicardium"]).sum() * grid.voxel_ml
    assert surface.volume_ml == pytest.approx(integrated, rel=0.01)


def test_cut_at_the_border_of_the_images(heart, subject):
    """Images that show half of the heart: as much of it as the measures count, and nothing beyond."""
    first = np.asarray(heart.centre_mm) - 70.0
    grid = Grid((36, 71, 71), Affine.scaling((2.0, 2.0, 2.0), tuple(first)))  # up to 1 mm beyond the centre
    cut = replace(subject, stacks=(Stack("sa", grid),), islands="keep")
    surface = surfaces(cut, ["LV epicardium"], spacing_mm=2.5)["LV epicardium"]
    whole, counted = (
        sample(one.answers, Lattice.over(one.region, next(iter(one.stacks), None)), 0.0)
        .volumes_ml()[:2]
        .sum()
        for one in (subject, cut)
    )
    assert surface.watertight
    assert surface.vertices[:, 0].max() == pytest.approx(heart.centre_mm[0] + 1.0, abs=0.06)
    assert counted < 0.8 * whole
    assert surface.volume_ml == pytest.approx(counted, rel=0.01)


def test_what_cannot_be_had(subject):
    with pytest.raises(BadSettingError, match=r"spleen: no such structure; give some of LV blood pool, LV"):
        surfaces(subject, ["spleen"])
    for spacing in (0.0, -1.0, np.nan):
        with pytest.raises(BadSettingError, match="give a positive number"):
            surfaces(subject, spacing_mm=spacing)
    with pytest.raises(BadSettingError, match="give a larger one"):
        surfaces(subject, spacing_mm=0.01)
    with pytest.raises(BadSettingError, match=r"spacing 500 mm: too coarse .* give at most \d"):
        surfaces(subject, spacing_mm=500)
    nowhere = replace(subject, region=Region(subject.region.pose, np.array([2.0, 2.0, 2.0])))
    with pytest.raises(CannotFitError, match="truth: there is no RV blood pool at time 0"):
        surfaces(nowhere, ["RV blood pool"])


def test_a_series_found_anew(heart, subject):
    options = SeriesOptions(("LV blood pool",), spacing_mm=4.0)
    times = [0.0, 0.35]
    found = dict(series(subject, times, options))
    for k, time in enumerate(times):
        surface = found[k]["LV blood pool"]
        assert surface.time == time
        assert surface.volume_ml == pytest.approx(volumes_ml(heart, time)["LV blood pool"], rel=0.03)


def test_a_series_with_the_same_triangles(heart, subject):
    options = SeriesOptions(("LV epicardium",), spacing_mm=4.0, same_triangles=True)
    times = np.arange(6) / 6
    found = {k: one["LV epicardium"] for k, one in series(subject, times, options)}
    assert sorted(found) == list(range(6))
    for k, surface in found.items():
        np.testing.assert_array_equal(surface.faces, found[0].faces)
        volumes = volumes_ml(heart, float(times[k]))
        truth = volumes["LV blood pool"] + volumes["LV myocardium"]
        assert surface.volume_ml == pytest.approx(truth, rel=0.02)
        assert surface.watertight
        assert not len(crossing_triangles(surface))
    moved = np.linalg.norm(found[3].vertices - found[0].vertices, axis=1)
    assert 0.5 < np.median(moved) < 15
