import numpy as np
import pytest

from nisf.view.refinement import lattice_step, refined


def blob(pixel):
    """A smooth image of two classes whose border is a circle, as a field answers it."""
    away = np.hypot(pixel[:, 0] - 70.3, pixel[:, 1] - 41.7)
    inside = 1 / (1 + np.exp((away - 30) / 2))
    return np.c_[0.2 + 0.6 * inside, 1 - inside, inside]


def sharp(width, height, step):
    sheets = [sheet for sheet in refined(blob, width, height, step, 1) if sheet is not None]
    assert [sheet.sharp for sheet in sheets] == [False, True]
    return sheets[-1]


def naive(width, height):
    pixel = np.stack(np.meshgrid(np.arange(width), np.arange(height), indexing="ij"), -1)
    return blob(pixel.reshape(-1, 2).astype(float)).reshape(width, height, 3)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (97, 83), (128, 64)])
def test_step_one_asks_for_every_pixel(width, height):
    assert np.allclose(sharp(width, height, 1).values, naive(width, height), atol=1e-6)


@pytest.mark.parametrize("step", [2, 4, 8])
def test_labels_are_those_of_every_pixel_for_less_work(step):
    sheet, full = sharp(160, 96, step), naive(160, 96)
    assert sheet.values.shape == full.shape
    assert np.array_equal(sheet.values[..., 1:].argmax(-1), full[..., 1:].argmax(-1))
    assert np.abs(sheet.values - full).max() < 0.06
    assert sheet.asked < 0.75 * 160 * 96


def test_the_coarse_sheet_comes_first_and_is_exact_where_it_asks():
    coarse = next(sheet for sheet in refined(blob, 100, 60, 2, 1) if sheet is not None)
    assert coarse.step == 8
    assert np.allclose(coarse.values[:12, :7], naive(100, 60)[::8, ::8][:12, :7], atol=1e-6)


def test_the_lattice_is_finer_than_measured_pixels():
    assert lattice_step(1.0) == 1
    assert lattice_step(0.3) == 2
    assert lattice_step(1e-5) == 8
