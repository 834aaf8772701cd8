"""Blank slices and fillings were not measured: they are left out, and nothing is made of them."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.data.geometry import Affine
from nisf.errors import BadFileError
from nisf.io.readers import read_image
from nisf.io.readers.measured import measured
from nisf.segmentation import Request, segment

TURNED = replace(toys.ANATOMY, turn=True)


def scan(seed=99):
    case = toys.toy_case(seed)
    return toys.image_of(case)[..., 0].astype(np.float32), case.stacks[0].grid.affine.matrix


def saved(path, array, matrix):
    image = nib.Nifti1Image(array, matrix)
    image.set_sform(matrix, 1)
    nib.save(image, path)
    return path


def ask(subject, array_matrix):
    """Probabilities at the voxels of the clean scan, at time 0."""
    array, matrix = array_matrix
    index = np.stack(np.meshgrid(*map(np.arange, array.shape[:3]), indexing="ij"), -1)
    return subject.query(Affine(matrix)(index), 0.0)[1]


@pytest.fixture(scope="module")
def prior(toy_image_prior):
    return replace(toy_image_prior, anatomy=TURNED)


@pytest.fixture(scope="module")
def clean(prior, tmp_path_factory):
    return ask(segment(saved(tmp_path_factory.mktemp("clean") / "a.nii", *scan()), prior), scan())


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize("value", [0.0, 300.0])
def test_blank_slices_at_the_ends(prior, clean, tmp_path, before, after, value):
    array, matrix = scan()
    padded = np.pad(array, ((0, 0), (0, 0), (before, after), (0, 0)), constant_values=value)
    moved = Affine(matrix).shifted((0, 0, -before)).matrix
    notes: dict[str, str] = {}
    path = saved(tmp_path / "a.nii", padded, moved)
    case = read_image(path, TURNED, notes)
    assert len(case.slices) == 12
    assert f"{2 * (before + after)} of {2 * (6 + before + after)} slices are blank" in notes["blank"]
    subject = segment(path, prior)
    np.testing.assert_allclose(ask(subject, scan()), clean, atol=1e-4)
    label = subject.stacks[0].arrangement.undo(subject.render().label)
    assert label[:, :, before : before + 6].any()
    assert not label[:, :, :before].any()
    assert not label[:, :, before + 6 :].any()
    beyond = subject.query(Affine(moved)(np.array([[12.0, 12.0, before + 6.4]])))
    assert beyond[1][0, 0] == 1.0
    assert beyond[0][0, 0] == 0.0


def test_blank_slices_in_between_are_answered_like_hidden_ones(prior, tmp_path):
    array, matrix = scan()
    array[:, :, 2] = 0
    subject = segment(saved(tmp_path / "a.nii", array, matrix), prior)
    label = subject.stacks[0].arrangement.undo(subject.render().label)
    areas = (label[..., 0] > 0).sum((0, 1))
    assert min(areas[1], areas[3]) * 0.5 < areas[2] < max(areas[1], areas[3]) * 1.5


def test_blank_frames(prior, tmp_path):
    array, matrix = scan()
    blank = np.concatenate([array, np.zeros_like(array[..., :1])], axis=-1)
    subject = segment(saved(tmp_path / "a.nii", blank, matrix), prior)
    assert len(subject.canvases.times) == 12
    volumes = (subject.render().label > 0).sum((0, 1, 2))
    assert 0.5 * volumes[:2].mean() < volumes[2] < 1.5 * volumes[:2].mean()


def test_one_slice_blank_in_one_frame(prior, tmp_path):
    array, matrix = scan()
    array[:, :, 3, 1] = 7.0
    case = read_image(saved(tmp_path / "a.nii", array, matrix), TURNED)
    assert len(case.slices) == 11
    assert segment(tmp_path / "a.nii", prior).render().label[..., 1].any()


@pytest.mark.parametrize("value", [-2000, -32768, 0, 512, 1024])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_constant_border_is_a_filling(prior, tmp_path, value, kind):
    array, matrix = scan()
    array = np.round(array)
    filled = np.pad(array, ((5, 3), (4, 6), (0, 0), (0, 0)), constant_values=value).astype(kind)
    moved = Affine(matrix).shifted((-5, -4, 0)).matrix
    notes: dict[str, str] = {}
    path = saved(tmp_path / "a.nii", filled, moved)
    case = read_image(path, TURNED, notes)
    assert "are padding or not a number" in notes["filled"]
    low, high = case.stacks[0].intensity_range[0]
    np.testing.assert_allclose([low, high], np.percentile(array, [1, 99]), rtol=0.02, atol=3)
    # The finder looks at the whole image, and may set the region's centre a little otherwise.
    centre = Affine(matrix)((np.array(array.shape[:3]) - 1) / 2)
    x, y, z = (float(mm) for mm in centre)
    request = Request(centre=(x, y, z))
    bare = ask(segment(saved(tmp_path / "bare.nii", array.astype(kind), matrix), prior, request), scan())
    np.testing.assert_allclose(ask(segment(path, prior, request), scan()), bare, atol=0.05)


def test_no_numbers_are_like_a_filling(prior, clean, tmp_path):
    array, matrix = scan()
    array[:3] = np.nan
    array[5, 20] = np.inf
    notes: dict[str, str] = {}
    path = saved(tmp_path / "a.nii", array, matrix)
    case = read_image(path, TURNED, notes)
    assert all(np.isfinite(item.image).all() for item in case.slices)
    assert "filled" in notes
    found = ask(segment(path, prior), scan())
    assert (np.abs(found - clean).max(-1) < 0.2).mean() > 0.95


def test_a_border_that_varies_is_no_filling():
    image = np.random.default_rng(0).integers(0, 50, (8, 9, 3, 2, 1)).astype(np.int16)
    found = measured(image)
    assert found.image is image
    assert (found.blank, found.filled) == (0, 0.0)


def test_a_value_that_tissue_has_is_a_filling_around_it_alone():
    image = np.full((12, 12, 2, 1, 1), 30.0)
    image[3:9, 3:9] = np.arange(36.0).reshape(6, 6)[:, :, None, None, None] * 2
    found = measured(image)
    assert found.image[3 + 2, 3 + 3, 0, 0, 0] == 30  # among the tissue
    assert found.image[0, 0, 0, 0, 0] == found.intensity_range[0, 0]
    np.testing.assert_allclose(found.intensity_range[0], np.percentile(image[3:9, 3:9], [1, 99]))


def test_nothing_measured(tmp_path):
    assert measured(np.zeros((4, 4, 3, 1, 1))) is None
    path = saved(tmp_path / "a.nii", np.full((8, 8, 3), 5.0, np.float32), np.diag([2.0, 2, 8, 1]))
    with pytest.raises(BadFileError, match="every slice is blank"):
        read_image(path, TURNED)


def naive(image):
    """What `measured` says, of the whole volume at once: slices, the range, and the volume mended."""
    numbers = np.isfinite(image)
    low = np.where(numbers, image, np.inf).min(axis=(0, 1))
    high = np.where(numbers, image, -np.inf).max(axis=(0, 1))
    slices = (low < high).any(axis=-1)
    shown = slices[None, None, :, :, None] & numbers
    edges = [part[:, slices] for part in (image[0], image[-1], image[:, 0], image[:, -1])]
    border = np.concatenate([edge[np.isfinite(edge)] for edge in edges])
    empty = ~numbers
    if border.size and border.min() == border.max():
        same, rest = image == border[0], (image != border[0]) & shown
        if image[rest].min() < border[0] < image[rest].max():
            i, j = (np.flatnonzero(rest.any(axis=axes)) for axes in ((1, 2, 3, 4), (0, 2, 3, 4)))
            same[i[0] : i[-1] + 1, j[0] : j[-1] + 1] = False
        empty |= same
    real = shown & ~empty
    ends = np.array([np.percentile(image[..., c][real[..., c]], [1, 99]) for c in range(image.shape[-1])])
    out = image.copy()
    for c in range(image.shape[-1]):
        out[..., c][empty[..., c]] = np.floor(ends[c, 0]) if image.dtype.kind in "iu" else ends[c, 0]
    return slices, ends, out


@pytest.mark.parametrize("where", [1, 2**27])
@pytest.mark.parametrize("seed", range(12))
def test_frames_one_by_one_say_the_same_as_all_at_once(where, seed, monkeypatch, tmp_path):
    """In files and in memory: borders, blank slices, numbers that are none, channels, reversed axes."""
    monkeypatch.setattr("nisf.data.scratch.LARGE", where)
    monkeypatch.setattr("nisf.data.scratch._folder", tmp_path)
    rng = np.random.default_rng(seed)
    dtype = (np.int16, np.uint8, np.float32)[seed % 3]
    image = rng.integers(0, 200, (9, 8, 4, 3, 1 + seed % 2)).astype(dtype)
    if seed % 4:
        edge = np.ones(image.shape[:2], dtype=bool)
        edge[seed % 4 : -1, 1:-1] = False
        image[edge] = (0, 100)[seed % 2]
    if seed % 3 == 1:
        image[:, :, 1, 2] = 7
    if dtype == np.float32:
        image[rng.random(image.shape) < 0.1] = np.nan
    image = image[::-1] if seed % 5 == 0 else image
    slices, ends, out = naive(image)
    found = measured(image)
    np.testing.assert_array_equal(found.slices, slices)
    np.testing.assert_allclose(found.intensity_range, ends, rtol=1e-6)
    np.testing.assert_allclose(found.image, out, rtol=1e-6)


@pytest.mark.parametrize("blank", [False, True])
def test_percentiles_are_of_a_subsample_that_is_spread_evenly(blank, monkeypatch):
    """Every 7th of the measured pixels, counted in the order of the memory."""
    monkeypatch.setattr("nisf.io.readers.measured.SUBSAMPLE", 100)
    monkeypatch.setattr("nisf.data.case.SUBSAMPLE", 100)
    image = np.random.default_rng(0).permutation(9 * 8 * 4 * 3).reshape(9, 8, 4, 3, 1).astype(np.int32)
    shown = [(z, t) for t in range(3) for z in range(4)]
    if blank:
        image[:, :, 1, 2] = 7
        shown = sorted(place for place in shown if place != (1, 2))
    flat = np.concatenate([image[:, :, z, t, 0].ravel(order="F") for z, t in shown])
    expected = np.percentile(flat[:: len(flat) // 100], [1, 99])
    np.testing.assert_array_equal(measured(image).intensity_range[0], expected)
