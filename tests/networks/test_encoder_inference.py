"""The frozen encoder against the plain one."""

from dataclasses import replace

import pytest
import torch

import toys
from nisf.networks.encoder import Encoder
from nisf.networks.encoder_inference import FrozenEncoder

PIXELS = toys.IMAGE.image.pixels
PLAIN = replace(toys.IMAGE.image, levels=2, slice_exchange=0, phase_exchange=0)
WHOLE = replace(toys.IMAGE.image, levels=3, slice_exchange=2, phase_exchange=2)


def encoder_of(config):
    """All of its weights count: norms, and the last maps of exchanges, which begin at nothing."""
    torch.manual_seed(1)
    encoder = Encoder(config, channels=2).eval().requires_grad_(False)
    for parameter in encoder.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape))
    return encoder


def seen(slices=5, phases=1):
    images = torch.rand(slices * phases, 2, PIXELS, PIXELS, generator=torch.Generator().manual_seed(2))
    maps = torch.eye(3, 4).repeat(slices, 1, 1)
    maps[:, :2, 3] = (PIXELS - 1) / 2
    maps[:, 2, 3] = torch.linspace(-20, 20, slices)
    return images, maps


@pytest.mark.parametrize("config", [PLAIN, WHOLE], ids=["plain", "whole"])
def test_as_the_plain_encoder(config):
    encoder, (images, maps) = encoder_of(config), seen()
    frozen = FrozenEncoder(encoder)
    coarse, latent, shown = frozen.coarse(images, maps)
    features, expected = encoder(images, [maps])
    torch.testing.assert_close(latent, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(frozen.features([(coarse, [])]), features, atol=1e-4, rtol=1e-4)
    assert len(shown) == config.phase_exchange
    assert features.std() > 0.1, "features that say nothing prove nothing"


def test_reference_phases_together_and_what_they_show():
    encoder, (images, maps) = encoder_of(WHOLE), seen(phases=2)
    frozen = FrozenEncoder(encoder)
    expected, features, latents = encoder.shown_by(images, [maps] * 2)
    coarse, found, shown = frozen.coarse(images, maps)
    for one, other in zip(shown, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(frozen.features([(coarse, [])]), features, atol=1e-4, rtol=1e-4)
    other = images[:5].flip(0)
    coarse, _, _ = frozen.coarse(other, maps, shown)
    torch.testing.assert_close(
        frozen.features([(coarse, [])]), encoder(other, [maps], shown=expected)[0], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("flips", [[[], [0]], [[], [0], [1], [0, 1]]])
def test_mean_over_mirror_images(flips):
    encoder, (images, maps) = encoder_of(PLAIN), seen()
    frozen, found, expected = FrozenEncoder(encoder), [], []
    for axes in flips:
        mirrored = images.flip([2 + axis for axis in axes])
        found.append((frozen.coarse(mirrored, maps)[0], axes))
        expected.append(encoder(mirrored, [maps])[0].flip([1 + axis for axis in axes]))
    mean = torch.stack(expected).mean(0)
    torch.testing.assert_close(frozen.features(found), mean, atol=1e-4, rtol=1e-4)
    assert (mean - expected[0]).abs().max() > 0.1
