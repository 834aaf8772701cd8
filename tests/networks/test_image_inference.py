"""The frozen field against the answers written out plainly, one thing after the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.kinds.image.scenes import Scenes
from nisf.networks.canvas import Canvases
from nisf.networks.image_field import ImageField
from nisf.networks.image_inference import FrozenImageField
from nisf.networks.lookup import FAR_MM, SHARP_MM, nearby

IMAGE = toys.IMAGE.image
FIELD = replace(toys.IMAGE.field, channels=2)


@pytest.fixture(scope="module")
def field():
    torch.manual_seed(0)
    field = ImageField(FIELD, IMAGE).eval().requires_grad_(False)
    for name, parameter in field.named_parameters():
        if name.endswith("bias"):  # they begin at nothing
            parameter.normal_(std=0.3)
    return field


def subject(slices=7, times=1, seed=0):
    """Canvases of slices in about the same direction, the same at all times, and places around them."""
    generator = torch.Generator().manual_seed(seed)
    turned = torch.eye(3) + 0.1 * torch.randn(slices, 3, 3, generator=generator)
    maps = torch.cat([torch.linalg.qr(turned)[0], torch.zeros(slices, 3, 1)], dim=2)
    maps[:, :2] /= IMAGE.pixel_mm
    maps[:, :2, 3] += (IMAGE.pixels - 1) / 2
    maps[:, 2, 3] = torch.linspace(-30, 30, slices) + torch.rand(slices, generator=generator)
    images = torch.rand(slices * times, 2, IMAGE.pixels, IMAGE.pixels, generator=generator).half()
    phases = np.repeat(np.arange(times) / max(times, 1), slices)
    place = 30 * torch.randn(400, 3, generator=generator)
    return Canvases(images, maps.repeat(times, 1, 1), phases), place


def plainly(field, features, latents, maps, points, both):
    """Logits of one phase; ``nisf.networks.image_field`` without its short cuts."""
    n, h, w, _ = features.shape
    local = torch.einsum("nij,pj->pni", maps[:, :, :3], points) + maps[None, :, :, 3]
    outside = ((local[..., :2] < -0.5) | (local[..., :2] > h - 0.5)).any(-1)
    distance = local[..., 2].abs() + FAR_MM * outside
    count = min(IMAGE.neighbours, n)
    nearest = distance.topk(min(count + 1, n), dim=1, largest=False)
    chosen, near = nearest.indices[:, :count], nearest.values[:, :count]
    reach = nearest.values[:, count:] if n > count else torch.full_like(near, FAR_MM)
    weight = (1 - near / (reach + 0.01)).clamp_min(0) * (near < FAR_MM)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
    local = torch.take_along_dim(local, chosen[..., None], dim=1)
    u, v, signed = local[..., 0].clamp(0, h - 1), local[..., 1].clamp(0, w - 1), local[..., 2:]
    i, j = u.floor().clamp(max=h - 2).long(), v.floor().clamp(max=w - 2).long()
    a, b = (u - i)[..., None], (v - j)[..., None]
    seen = (1 - a) * ((1 - b) * features[chosen, i, j] + b * features[chosen, i, j + 1])
    seen = seen + a * ((1 - b) * features[chosen, i + 1, j] + b * features[chosen, i + 1, j + 1])
    sharp = weight / (signed[..., 0].abs() + SHARP_MM)
    sharp = sharp / sharp.sum(1, keepdim=True).clamp_min(1e-6)
    answers = []
    for side in (signed, -signed)[: 1 + both]:
        each = field.each(torch.cat([seen, side / IMAGE.distance_mm], dim=-1))
        means = [(each * share[..., None]).sum(1) for share in (weight, sharp)]
        hidden = field.join(torch.cat([*means, latents.mean(0).expand(len(each), -1)], dim=1))
        answers.append(field.head(hidden) + field.direct((seen * sharp[..., None]).sum(1)))
    answer = torch.stack(answers).mean(0)
    return answer[:, :2], answer[:, 2:]


def in_mirrors(field, images, maps, mirrors):
    """Features and latents, each the mean over all mirror images; features turned back."""
    seen = []
    for axes in [[], [0], [1], [0, 1]][: 2**mirrors]:
        turned = maps.clone()
        for axis in axes:
            turned[:, axis] *= -1
            turned[:, axis, 3] += images.shape[2 + axis] - 1
        features, latents = field.encoder(images.flip([2 + a for a in axes]), [turned])
        seen.append((features.flip([1 + a for a in axes]), latents))
    return [torch.stack(part).mean(0) for part in zip(*seen, strict=True)]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("slices", [1, 3, 7])
def test_one_moment(field, slices, both):
    seen, place = subject(slices)
    scene = field.encode(seen.images.float(), seen.maps)
    near = nearby(seen.maps, place, IMAGE.pixels, IMAGE.neighbours)
    assert (near.weight.sum(1) == 0).any()  # some places are out of sight
    encoded = field.encoder(seen.images.float(), [seen.maps])
    expected = plainly(field, *encoded, seen.maps, place, both)
    ways = [FrozenImageField(field, 400)([(scene, 1.0)], near, both=both)]
    if not both:
        ways.append(field(scene, place))
    for found in ways:
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def encoded_in_mirrors(field, seen, phase, mirrors):
    """Features, latents and maps of the slices at one of two phases."""
    index = torch.from_numpy(seen.times == phase / 2)
    return *in_mirrors(field, seen.images[index].float(), seen.maps[index], mirrors), seen.maps[index]


@pytest.mark.parametrize("mirrors", [0, 1, 2])
@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.25, 0.75)])
def test_scenes_ask_it_for_mirror_images_and_times_between(field, mirrors, shares):
    seen, place = subject(times=2)
    phases = [encoded_in_mirrors(field, seen, phase, mirrors) for phase in (0, 1)]
    features, latents = (
        sum(share * phase[part] for share, phase in zip(shares, phases, strict=True)) for part in (0, 1)
    )
    values, classes = plainly(field, features, latents, phases[0][2], place, True)
    scenes = Scenes(field, seen, mirrors=mirrors)
    found = scenes.ask(place.double().numpy(), np.full(400, shares[1] / 2))
    expected = torch.sigmoid(values), torch.softmax(classes, dim=1)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=2e-6)


def test_answers_are_mixed_between_phases_that_are_posed_otherwise(field):
    seen, place = subject(times=2)
    seen.maps[torch.from_numpy(seen.times > 0), 0, 3] += 1.5
    expected = [np.zeros((400, 2)), np.zeros((400, 3))]
    for phase, share in enumerate((0.25, 0.75)):
        values, classes = plainly(field, *encoded_in_mirrors(field, seen, phase, 0), place, True)
        expected[0] += share * torch.sigmoid(values).numpy()
        expected[1] += share * torch.softmax(classes, dim=1).numpy()
    found = Scenes(field, seen).ask(place.double().numpy(), np.full(400, 0.375))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_counted_from_either_end(field):
    seen, place = subject()
    maps = seen.maps.clone()
    maps[:, 2] *= -1
    forth, back = (Scenes(field, replace(seen, maps=m)) for m in (seen.maps, maps))
    a, b = (s.ask(place.double().numpy(), np.zeros(400))[1] for s in (forth, back))
    np.testing.assert_allclose(a, b, atol=1e-6)
