import tracemalloc

import numpy as np
import pytest
import torch

import toys
from nisf.chunks import LATENT_ROWS, positions_at_a_time
from nisf.config.schema import FieldConfig
from nisf.data.geometry import Grid
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import ask, rows_of


@pytest.fixture(scope="module")
def field():
    torch.manual_seed(0)
    return LatentField(toys.CONFIG.field)


def test_rows(field):
    sizes = [rows_of(field, mb) for mb in (0.001, 0.1, 0.2, 1, 1e6)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 256
    assert sizes[-1] == LATENT_ROWS
    assert rows_of(LatentField(FieldConfig(layers=1)), 1) < rows_of(field, 1)


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 1000])
def test_chunks_change_nothing(field, n):
    latent = torch.randn(toys.CONFIG.field.latent)
    coordinates = np.random.default_rng(0).uniform(-1, 1, (n, 4))
    small = ask(field, latent, coordinates, memory_mb=0.001)
    large = ask(field, latent, coordinates)
    assert large[0].shape == (n, 1)
    assert large[1].shape == (n, 3)
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_memory_stays_within_the_budget(field):
    """Beside its results, a question ten times as long takes no more memory."""
    latent = torch.randn(toys.CONFIG.field.latent)
    coordinates = np.zeros((100_000, 4), dtype=np.float32)
    ask(field, latent, coordinates[:10])
    peaks = []
    for n in (10_000, 100_000):
        tracemalloc.start()
        results = ask(field, latent, coordinates[:n], memory_mb=1)
        peaks.append(tracemalloc.get_traced_memory()[1] - sum(r.nbytes for r in results))
        tracemalloc.stop()
    assert max(peaks) < 2**20
    assert peaks[1] < peaks[0] + 2**16


@pytest.mark.parametrize("memory_mb", [0.001, 0.1, 512])
def test_a_block_of_a_grid_is_like_the_whole(toy_fitted, memory_mb):
    plane = Grid.plane((0, 0, 0), (0.2, 0.1, 1), size_mm=(70, 90), spacing_mm=2, times=(0, 0.3))
    assert 1 <= positions_at_a_time(memory_mb) <= 1 << 18
    rendering = toy_fitted.render(plane, probabilities=True, memory_mb=memory_mb)
    for t, time in enumerate(plane.times):
        image, probability = toy_fitted.query(plane.points(), float(time))
        np.testing.assert_allclose(rendering.image[..., t, :], image, rtol=1e-3, atol=0.1)
        np.testing.assert_allclose(rendering.probability[..., t, :], probability, atol=1e-4)
        assert (rendering.label[..., t] == rendering.probability[..., t, :].argmax(-1)).all()


def test_answers_are_probabilities(field):
    latent = torch.randn(toys.CONFIG.field.latent)
    coordinates = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)
    intensity, probability = ask(field, latent, coordinates)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)
    logits = field(torch.from_numpy(coordinates)[None], latent[None])
    np.testing.assert_allclose(intensity, torch.sigmoid(logits[0][0]).detach(), atol=1e-6)
    np.testing.assert_allclose(probability, torch.softmax(logits[1][0], -1).detach(), atol=1e-6)
