from dataclasses import replace

import pytest
import torch

import toys
from nisf.networks.encoder import Encoder
from nisf.networks.image_field import ImageField
from nisf.networks.slice_exchange import SliceExchange, coarse_maps, pixel_places

IMAGE = replace(toys.IMAGE.image, slice_exchange=2)


def maps_of(slices, seed=0):
    """Slices 9 mm apart, each turned a little."""
    generator = torch.Generator().manual_seed(seed)
    turned = torch.eye(3) + 0.1 * torch.randn(slices, 3, 3, generator=generator)
    maps = torch.cat([torch.linalg.qr(turned)[0], torch.zeros(slices, 3, 1)], dim=2)
    maps *= maps.diagonal(dim1=1, dim2=2).sign()[..., None]
    maps[:, :2] /= IMAGE.pixel_mm
    maps[:, :2, 3] += (IMAGE.pixels - 1) / 2
    maps[:, 2, 3] = 9.0 * torch.arange(slices) - 4.5 * (slices - 1)
    return maps


def images_of(slices, seed=1):
    return torch.rand(slices, 1, IMAGE.pixels, IMAGE.pixels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def encoder():
    """As if trained: what the exchange adds is no longer nothing."""
    torch.manual_seed(0)
    encoder = Encoder(IMAGE, channels=1).eval().requires_grad_(False)
    for part in encoder.exchange:
        part.into.weight.normal_(std=0.3)
        part.each.bias.normal_()
    return encoder


def test_pixels_lie_where_the_maps_take_them():
    maps, scale = maps_of(3), 4
    coarse = coarse_maps(maps, scale)
    size = IMAGE.pixels // scale
    places = pixel_places(coarse, size)
    back = torch.einsum("nij,npj->npi", maps[:, :, :3], places) + maps[:, None, :, 3]
    # The middle of four by four canvas pixels; the second axis is the fastest.
    middle = scale * torch.arange(size) + (scale - 1) / 2
    expected = torch.cartesian_prod(middle, middle, torch.zeros(1)).expand(3, -1, -1)
    torch.testing.assert_close(back, expected, atol=1e-4, rtol=0)


def test_against_loops(encoder):
    """One pixel, one neighbour at a time."""
    part, maps = encoder.exchange[0], maps_of(5)
    channels, scale = part.each.in_features, part.scale
    size = IMAGE.pixels // scale
    x = torch.randn(5, channels, size, size, generator=torch.Generator().manual_seed(2))
    found = part(x, [maps])
    coarse = coarse_maps(maps, scale)
    places = pixel_places(coarse, size).reshape(5, size, size, 3)
    middle = (size - 1) / 2
    for n, i, j in [(0, 0, 0), (2, size - 1, 0), (4, size // 2, size // 2), (1, 1, size - 1)]:
        local = coarse[:, :, :3] @ places[n, i, j] + coarse[:, :, 3]
        outside = (local[:, :2] - middle).abs().amax(1) > size / 2
        order = (local[:, 2].abs() + 1e4 * outside).argsort()
        away = local[order, 2].abs() + 1e4 * outside[order]
        weight = (1 - away[:3] / (away[3] + 0.01)).clamp_min(0) * (away[:3] < 1e4)
        weight = weight / weight.sum()
        mean = torch.zeros(channels)
        for k, share in zip(order[:3].tolist(), weight, strict=True):
            u, v = (float(local[k, axis].clamp(0, size - 1)) for axis in (0, 1))
            a, b = min(int(u), size - 2), min(int(v), size - 2)
            corners = x[k, :, a : a + 2, b : b + 2]
            rows = (1 - u + a) * corners[:, 0] + (u - a) * corners[:, 1]
            seen = (1 - v + b) * rows[:, 0] + (v - b) * rows[:, 1]
            distance = local[k, 2].abs()[None] / IMAGE.distance_mm
            mean += share * torch.relu(part.each(seen) + part.along(distance))
        torch.testing.assert_close(found[n, :, i, j], x[n, :, i, j] + part.into(mean), rtol=1e-4, atol=1e-4)


def test_a_new_exchange_changes_nothing():
    torch.manual_seed(0)
    without = ImageField(toys.IMAGE.field, toys.IMAGE.image).eval()
    grown = ImageField(toys.IMAGE.field, IMAGE).eval()
    missing, unexpected = grown.load_state_dict(without.state_dict(), strict=False)
    assert {name.split(".")[1] for name in missing} == {"exchange"}
    assert not unexpected
    a, b = (field.encode(images_of(4), maps_of(4)) for field in (without, grown))
    assert torch.equal(a.features, b.features)
    assert torch.equal(a.latent, b.latent)


def test_only_slices_of_a_scene_see_each_other(encoder):
    """Scenes of different sizes in one batch, one of them smaller than the number of neighbours."""
    maps, images = [maps_of(5), maps_of(2, seed=3)], [images_of(5), images_of(2, seed=4)]
    together = encoder(torch.cat(images), maps)
    apart = [encoder(i, [m]) for i, m in zip(images, maps, strict=True)]
    for found, of in zip(together, zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(found, torch.cat(of), rtol=1e-4, atol=1e-5)
    other = encoder(torch.cat([images[0][:4], images_of(1, seed=9), images[1]]), maps)[0]
    assert (other[3] - together[0][3]).abs().max() > 1e-3
    torch.testing.assert_close(other[5:], together[0][5:], rtol=1e-4, atol=1e-5)


def test_neither_order_nor_the_end_they_are_counted_from_matters(encoder):
    images, maps = images_of(5), maps_of(5)
    features, latents = encoder(images, [maps])
    order = torch.tensor([3, 0, 4, 2, 1])
    for found, expected in zip(encoder(images[order], [maps[order]]), (features, latents), strict=True):
        torch.testing.assert_close(found, expected[order], rtol=1e-4, atol=1e-5)
    turned = maps.clone()
    turned[:, 2] *= -1
    for found, expected in zip(encoder(images, [turned]), (features, latents), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_it_learns():
    """Gradients reach all of it, once the last map has left zero."""
    part = SliceExchange(6, 4, IMAGE)
    x = torch.randn(3, 6, 8, 8, generator=torch.Generator().manual_seed(5))
    part(x, [maps_of(3)]).square().sum().backward()
    assert part.into.weight.grad.abs().max() > 0
    assert part.each.weight.grad.abs().max() == 0
    torch.nn.init.normal_(part.into.weight)
    part(x, [maps_of(3)]).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in part.parameters())
