import pytest
import torch

import toys
from nisf.config.schema import FieldConfig, ImageConfig
from nisf.networks.encoder import Encoder
from nisf.networks.image_field import ImageField, Scene

IMAGE = toys.IMAGE.image


@pytest.fixture(scope="module")
def field():
    torch.manual_seed(0)
    return ImageField(toys.IMAGE.field, IMAGE).eval().requires_grad_(False)


def parallel(z):
    """Maps of slices across the third axis at ``z`` mm."""
    maps = torch.zeros(len(z), 3, 4)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / IMAGE.pixel_mm
    maps[:, :2, 3] = (IMAGE.pixels - 1) / 2
    maps[:, 2, 2], maps[:, 2, 3] = 1.0, -torch.tensor(z)
    return maps


@pytest.fixture(scope="module")
def scene(field):
    z = [-20.0, -10.0, 0.0, 10.0, 25.0]
    images = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    return field.encode(images, parallel(z))


def test_encoder_shapes():
    encoder = Encoder(ImageConfig(pixels=16, width=4, levels=3, features=5, latent=3), channels=2).eval()
    features, latent = encoder(torch.rand(2, 2, 16, 16), [parallel([0.0, 9.0])])
    assert features.shape == (2, 16, 16, 5)
    assert latent.shape == (2, 3)
    # One slice at a time: company changes nothing.
    alone, _ = encoder(torch.rand(1, 2, 16, 16).repeat(2, 1, 1, 1), [parallel([0.0, 9.0])])
    torch.testing.assert_close(alone[0], alone[1])


def test_continuous_everywhere(field, scene):
    """No jump where one slice takes over from another."""
    z = torch.linspace(-30, 40, 7001)
    points = torch.stack([torch.full_like(z, 3.0), torch.full_like(z, -7.0), z], dim=1)
    _, classes = field(scene, points)
    steps = classes.diff(dim=0).abs().amax(1)
    assert steps.max() < 30 * steps.median() + 1e-3
    assert (classes[0] - classes[-1]).abs().max() > 0.001


def test_order_of_the_slices_does_not_matter(field, scene):
    points = 20 * torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    order = torch.tensor([3, 0, 4, 2, 1])
    other = Scene(scene.features[order], scene.maps[order], scene.latent)
    for a, b in zip(field(scene, points), field(other, points), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_one_slice_is_enough(field):
    scene = field.encode(torch.rand(1, 1, 32, 32), parallel([4.0]))
    intensity, classes = field(scene, torch.randn(7, 3))
    assert intensity.shape == (7, 1)
    assert classes.shape == (7, 3)
    assert torch.isfinite(classes).all()


def test_gradient_reaches_the_encoder():
    field = ImageField(FieldConfig(kind="image", classes=3), IMAGE)
    scene = field.encode(torch.rand(2, 1, 32, 32), parallel([0.0, 10.0]))
    sum(part.square().sum() for part in field(scene, torch.randn(30, 3))).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in field.encoder.down[0].parameters())
