"""What a finder is trained on."""

import numpy as np
import pytest
import torch

import toys
from nisf.networks import finder_views
from nisf.networks.finder_training import coarse_slices
from nisf.networks.finder_views import SIZE, patterns


@pytest.fixture(scope="module")
def seen():
    cases = [
        toys.toy_case(seed, toys.toy_grid(shape=(36, 36, 6), frames=2, spacing=(4.0, 4.0, 10.0)))
        for seed in range(3)
    ]
    found = coarse_slices(cases, 4.0, 16, np.random.default_rng(0))
    assert found is not None
    return found


def views(seen, monkeypatch, *, windowed=0.0, beside=0.0, erased=0.0, pattern=0.0, count=24):
    for name, share in (("WINDOWED", windowed), ("BESIDE", beside), ("ERASED", erased), ("PATTERN", pattern)):
        monkeypatch.setattr(finder_views, name, share)
    chosen = torch.arange(count) % len(seen.image)
    return seen.views(chosen, torch.Generator().manual_seed(0))


def test_coarse_slices_know_the_extent_and_the_field_of_view(seen):
    for case, (extent, measured) in enumerate(zip(seen.extent, seen.measured, strict=True)):
        targets = seen.target[seen.case == case]
        assert torch.equal(extent, (targets.amax(0) > 0.5).float())
        assert int(measured.sum()) == 36 * 36
        assert (seen.image[seen.case == case].amax(0)[measured == 0] == 0).all()


def test_a_whole_view_shows_the_anatomy(seen, monkeypatch):
    image, target = views(seen, monkeypatch)
    assert image.shape == target.shape == (24, SIZE, SIZE)
    assert image.min() >= 0
    assert image.max() <= 1
    assert set(target.unique().tolist()) == {0.0, 1.0}


def test_a_window_is_smaller_and_keeps_the_anatomy_where_it_is_seen(seen, monkeypatch):
    whole, _ = views(seen, monkeypatch, count=60)
    image, target = views(seen, monkeypatch, windowed=1.0, count=60)
    assert (image > 0).float().mean() < 0.7 * (whole > 0).float().mean()
    assert (target.sum((1, 2)) > 0).float().mean() > 0.6
    # Black beyond the window, whose middle is the grid's.
    rows = (image > 0).any(2).float()
    middle = (rows * torch.arange(SIZE)).sum(1) / rows.sum(1).clamp_min(1)
    assert (middle[rows.sum(1) > 0] - (SIZE - 1) / 2).abs().median() < 6


@pytest.mark.parametrize("way", [{"windowed": 1.0, "beside": 1.0}, {"erased": 1.0}, {"pattern": 1.0}])
def test_there_is_nothing_to_find(seen, monkeypatch, way):
    image, target = views(seen, monkeypatch, count=60, **way)
    # A box around the turned anatomy is tight: a little may lie in a window beside it.
    assert target.mean() < 0.002
    assert image.std() > 0.01


def test_what_is_painted_over_looks_like_what_is_around():
    dice = finder_views._Dice(2, torch.Generator().manual_seed(0))
    image, extent = torch.full((2, SIZE, SIZE), 0.4), torch.zeros(2, SIZE, SIZE)
    extent[:, 20:30, 20:30] = 1
    image[:, 20:30, 20:30] = 1.0
    painted = finder_views._painted_over(image, extent, dice)
    torch.testing.assert_close(painted, torch.full_like(painted, 0.4))


def test_the_same_again(seen, monkeypatch):
    shares = {"windowed": 0.5, "beside": 0.2, "erased": 0.2, "pattern": 0.2}
    for one, other in zip(
        views(seen, monkeypatch, **shares), views(seen, monkeypatch, **shares), strict=True
    ):
        assert torch.equal(one, other)


def test_patterns_fill_their_range():
    made = patterns(16, np.random.default_rng(3))
    assert made.shape == (16, SIZE, SIZE)
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made.min((1, 2)), 0)
    np.testing.assert_array_equal(made.max((1, 2)), 1)
