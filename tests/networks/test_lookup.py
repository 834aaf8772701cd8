import pytest
import torch

from nisf.networks.lookup import FAR_MM, SHARP_MM, interpolate, nearby, without_slices
from nisf.networks.slice_exchange import pixel_places

SIZE, PIXEL_MM = 32, 4.0


def parallel(z):
    """Maps of slices across the third axis at ``z`` mm."""
    maps = torch.zeros(len(z), 3, 4)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / PIXEL_MM
    maps[:, :2, 3] = (SIZE - 1) / 2
    maps[:, 2, 2], maps[:, 2, 3] = 1.0, -torch.tensor(z)
    return maps


def test_sample_is_linear_between_pixels():
    features = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(2, 3, 4, 1)
    image = torch.tensor([0, 1, 1, 0])
    u, v = torch.tensor([0.0, 1.5, 2.0, -5.0]), torch.tensor([0.5, 3.0, 2.25, 9.0])
    torch.testing.assert_close(
        interpolate(features, image, u, v)[:, 0], torch.tensor([0.5, 21.0, 22.25, 3.0])
    )


def test_nearest_slices_and_their_weight():
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 40.0], [500.0, 0.0, 0.0]])
    near = nearby(parallel([-20.0, -10.0, 0.0, 10.0, 25.0]), points, SIZE, 3)
    assert set(near.index[0].tolist()) == {1, 2, 3}
    assert set(near.index[2].tolist()) == {2, 3, 4}
    torch.testing.assert_close(near.distance[0].abs().sort().values, torch.tensor([0.0, 10.0, 10.0]))
    for share in (near.weight, near.sharp):
        torch.testing.assert_close(share.sum(1), torch.tensor([1.0, 1.0, 1.0, 0.0]))  # last: no slice there
    assert near.weight[0].max() == pytest.approx(0.5, abs=0.01)
    assert near.sharp[0].max() > 0.8
    torch.testing.assert_close(
        near.u, torch.full_like(near.u, 15.5).where(torch.arange(4)[:, None] < 3, near.u)
    )


def corner_by_corner(features, image, u, v):
    """Four look-ups, weighted one after the other."""
    _, h, w, _ = features.shape
    u, v = u.clamp(0, h - 1), v.clamp(0, w - 1)
    i, j = u.floor().clamp(max=h - 2).long(), v.floor().clamp(max=w - 2).long()
    a, b = (u - i)[..., None], (v - j)[..., None]
    near = (1 - b) * features[image, i, j] + b * features[image, i, j + 1]
    far = (1 - b) * features[image, i + 1, j] + b * features[image, i + 1, j + 1]
    return (1 - a) * near + a * far


def test_interpolation_and_its_gradient_corner_by_corner():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 7, 9, 5, generator=generator, requires_grad=True)
    image = torch.randint(0, 3, (40, 2), generator=generator)
    u, v = (12 * torch.rand(40, 2, generator=generator) - 2 for _ in range(2))
    weight = torch.randn(40, 2, 5, generator=generator)
    answers = []
    for way in (interpolate, corner_by_corner):
        found = way(features, image, u, v)
        answers.append((found, *torch.autograd.grad((found * weight).sum(), features)))
    for a, b in zip(*answers, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def place_by_place(maps, point, count):
    """Index to pixel, distance and both weights, with loops."""
    local = [(m[:, :3] @ point + m[:, 3]).tolist() for m in maps]
    far = [abs(d) + FAR_MM * (not (-0.5 <= u <= SIZE - 0.5 and -0.5 <= v <= SIZE - 0.5)) for u, v, d in local]
    order = sorted(range(len(maps)), key=lambda i: far[i])
    reach = far[order[count]] if len(order) > count else FAR_MM
    weight = {i: max(0, 1 - far[i] / (reach + 0.01)) * (far[i] < FAR_MM) for i in order[:count]}
    sharp = {i: w / (abs(local[i][2]) + SHARP_MM) for i, w in weight.items()}
    total, sharp_total = sum(weight.values()) or 1, sum(sharp.values()) or 1
    return {i: [*local[i], weight[i] / total, sharp[i] / sharp_total] for i in weight}


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 9])
def test_place_by_place(slices):
    """Slices in any direction, places inside and outside of their canvases."""
    generator = torch.Generator().manual_seed(slices)
    maps = torch.linalg.qr(torch.randn(slices, 3, 3, generator=generator))[0]
    maps = torch.cat([maps, 10 * torch.randn(slices, 3, 1, generator=generator)], dim=2)
    maps[:, :2] /= PIXEL_MM
    maps[:, :2, 3] += (SIZE - 1) / 2
    points = 40 * torch.randn(60, 3, generator=generator)
    near = nearby(maps, points, SIZE, 3)
    columns = torch.stack([near.u, near.v, near.distance, near.weight, near.sharp], dim=-1)
    for i, point in enumerate(points):
        expected = place_by_place(maps, point, 3)
        assert set(near.index[i].tolist()) == set(expected)
        wanted = torch.tensor([expected[j] for j in near.index[i].tolist()])
        torch.testing.assert_close(columns[i], wanted, rtol=1e-4, atol=1e-4)


def test_places_are_never_in_half_precision():
    """Features would be read half a pixel away."""
    maps, points = (
        parallel([-15.0, -5.0, 5.0, 15.0]),
        torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 60 - 30,
    )
    expected = nearby(maps, points, SIZE, 3)
    places = pixel_places(maps, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = nearby(maps, points, SIZE, 3)
        assert torch.equal(pixel_places(maps, 8), places)
    for name in ("index", "u", "v", "distance", "weight", "sharp"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_slices_are_left_out_unless_they_are_the_nearest():
    points = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 8.0], [500.0, 0.0, 0.0]])
    near = nearby(parallel([-20.0, -10.0, 0.0, 10.0, 25.0]), points, SIZE, 3)
    left_out = torch.tensor([False, True, True, False, False])
    found = without_slices(near, left_out)
    for weight, before in ((found.weight, near.weight), (found.sharp, near.sharp)):
        torch.testing.assert_close(weight.sum(1), before.sum(1))
        assert weight[0, near.index[0] == 1].item() == 0
        assert weight[0, near.index[0] == 2].item() > before[0, near.index[0] == 2].item()
        assert weight[1, near.index[1] == 2].item() == 0
    torch.testing.assert_close(found.index, near.index)
    same = without_slices(near, torch.zeros(5, dtype=torch.bool))
    torch.testing.assert_close(same.weight, near.weight)
