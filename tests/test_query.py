import numpy as np
import pytest
import torch

import toys
from nisf.config import FieldConfig
from nisf.field import Field
from nisf.query import CHUNK, ask, chunk_size


@pytest.fixture(scope="module")
def field():
    torch.manual_seed(0)
    return Field(toys.CONFIG.field)


def test_chunk_size(field):
    sizes = [chunk_size(field, mb) for mb in (0.001, 1, 2, 4, 1e6)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 256
    assert sizes[-1] == CHUNK
    assert chunk_size(Field(FieldConfig(layers=1)), 4) < chunk_size(field, 4)


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


def test_answers_are_probabilities(field):
    latent = torch.randn(toys.CONFIG.field.latent)
    coordinates = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)
    intensity, probability = ask(field, latent, coordinates)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)
    logits = field(torch.from_numpy(coordinates)[None], latent[None])
    np.testing.assert_allclose(intensity, torch.sigmoid(logits[0][0]).detach(), atol=1e-6)
    np.testing.assert_allclose(probability, torch.softmax(logits[1][0], -1).detach(), atol=1e-6)
