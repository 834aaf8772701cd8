import math

import pytest
import torch
from torch import nn

from nisf.config.schema import FieldConfig
from nisf.networks.latent_field import LatentField, gabor


def paper(config, field, coordinates, latent):
    """The network as the paper words it: nothing shared, nothing fused, one point like another."""
    coordinates = coordinates * torch.tensor([config.coordinate_scale] * 3 + [1.0])[: config.dimensions]
    if config.cyclic_time and config.dimensions == 4:
        t = coordinates[..., 3] * 2 * math.pi
        coordinates = torch.stack([*coordinates[..., :3].unbind(-1), torch.cos(t), torch.sin(t)], dim=-1)
    every_point = latent[:, None, :].expand(-1, coordinates.shape[1], -1)
    outputs = []
    for backbone in field.backbones:
        h = every_point
        if config.latent != config.width:
            h = every_point @ backbone.start.weight.T + backbone.start.bias
        x = torch.cat([coordinates, every_point], dim=-1)
        names = config.activation.split("+") * config.layers
        for fused, name in zip(backbone.layers, names[: config.layers], strict=True):
            if name == "gabor":
                a, b = (nn.Linear(x.shape[-1], config.width, dtype=torch.float64) for _ in range(2))
                with torch.no_grad():
                    a.weight.copy_(fused.weight[: config.width])
                    a.bias.copy_(fused.bias[: config.width])
                    b.weight.copy_(fused.weight[config.width :])
                    b.bias.copy_(fused.bias[config.width :])
                out = torch.cos(config.gabor_omega * a(x)) * torch.exp(-((config.gabor_sigma * b(x)) ** 2))
            else:
                linear = x @ fused.weight.T + fused.bias
                out = torch.sin(config.sine_omega * linear) if name == "sine" else linear.clamp_min(0)
            h = out + h
            x = h
        outputs.append(h)
    intensity = outputs[0] @ field.intensity_head.weight.T + field.intensity_head.bias
    classes = outputs[-1] @ field.class_head.weight.T + field.class_head.bias
    return intensity, classes


def example(config, subjects=2, points=5):
    torch.manual_seed(0)
    field = LatentField(config).double()
    coordinates = torch.rand(subjects, points, config.dimensions, dtype=torch.float64) * 2 - 1
    return field, coordinates, torch.randn(subjects, config.latent, dtype=torch.float64)


def test_parameters_of_the_papers_network():
    field = LatentField(FieldConfig(dimensions=4, classes=4, channels=1, latent=128, width=128, layers=8))
    # (4 + 128 + 1) * 256 for the first layer, 7 * 129 * 256 for the others, 129 * 5 for the heads.
    assert sum(p.numel() for p in field.parameters()) == 265_861


SMALL = {"width": 12, "latent": 12, "layers": 4}


@pytest.mark.parametrize("backbone", ["shared", "separate"])
@pytest.mark.parametrize("activation", ["gabor", "sine", "relu", "gabor+relu", "gabor+sine"])
def test_golden(activation, backbone):
    config = FieldConfig(activation=activation, backbone=backbone, **SMALL)
    field, coordinates, latent = example(config)
    assert len(field.backbones) == (2 if backbone == "separate" else 1)
    for found, expected in zip(
        field(coordinates, latent), paper(config, field, coordinates, latent), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(field.intensity(coordinates, latent), field(coordinates, latent)[0])


@pytest.mark.parametrize(
    "sizes",
    [
        {"dimensions": 2},
        {"dimensions": 3},
        {"dimensions": 3, "cyclic_time": True},
        {"cyclic_time": True},
        {"channels": 3, "classes": 7},
        {"latent": 5},
        {"latent": 20, "backbone": "separate"},
        {"layers": 1},
        {"coordinate_scale": 2.5},
        {"coordinate_scale": 0.5, "cyclic_time": True},
        {"gabor_omega": 3.0, "gabor_sigma": 0.7},
    ],
)
def test_golden_sizes(sizes):
    if sizes.get("coordinate_scale", 1) != 1 and not sizes.get("cyclic_time"):
        sizes = {**sizes, "dimensions": 3}
    config = FieldConfig(**{**SMALL, **sizes})
    field, coordinates, latent = example(config)
    intensity, classes = field(coordinates, latent)
    assert intensity.shape == (2, 5, config.channels)
    assert classes.shape == (2, 5, config.classes)
    expected = paper(config, field, coordinates, latent)
    torch.testing.assert_close(intensity, expected[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(classes, expected[1], atol=1e-10, rtol=0)


def test_papers_network_golden():
    config = FieldConfig()
    field, coordinates, latent = example(config, points=50)
    for found, expected in zip(
        field(coordinates, 0.1 * latent), paper(config, field, coordinates, 0.1 * latent), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_cyclic_time_is_periodic():
    config = FieldConfig(cyclic_time=True, **SMALL)
    field, coordinates, latent = example(config)
    start, end, half = coordinates.clone(), coordinates.clone(), coordinates.clone()
    start[..., 3], end[..., 3], half[..., 3] = 0, 1, 0.5
    torch.testing.assert_close(field(start, latent)[1], field(end, latent)[1])
    assert (field(start, latent)[1] - field(half, latent)[1]).abs().max() > 1e-3
    plain, coordinates, latent = example(FieldConfig(**SMALL))
    assert (plain(start, latent)[1] - plain(end, latent)[1]).abs().max() > 1e-3


def test_subjects_do_not_mix():
    field, coordinates, latent = example(FieldConfig(**SMALL), subjects=3)
    together = field(coordinates, latent)[1]
    for i in range(3):
        alone = field(coordinates[i : i + 1], latent[i : i + 1])[1]
        torch.testing.assert_close(together[i : i + 1], alone)
    assert (field(coordinates, latent.flip(0))[1] - together).abs().max() > 1e-3


@pytest.mark.parametrize("activation", ["gabor", "sine", "gabor+sine"])
def test_gradient_of_the_latent(activation):
    config = FieldConfig(activation=activation, width=6, latent=5, layers=3, gabor_omega=2, gabor_sigma=2)
    field, coordinates, latent = example(config)
    assert torch.autograd.gradcheck(
        lambda x: field(coordinates, x), latent.requires_grad_(True), check_undefined_grad=False
    )


def test_gabor_wavelet():
    found = gabor(torch.tensor([0.0, 0.1, 0.0, 0.0, 0.0, 0.2]), 10.0, 5.0)
    torch.testing.assert_close(found, torch.tensor([1.0, math.cos(1), math.exp(-1)]))


def test_envelopes_do_not_underflow():
    scale = torch.tensor([0.0, 1.0, 9.0, 9.4, 20.0, 1e4])
    found = gabor(torch.cat([torch.zeros(6), scale]), 1.0, 1.0)
    exact = torch.exp(-(scale.double() ** 2))
    assert (found >= torch.finfo(torch.float32).tiny).all()
    assert ((found - exact).abs() <= 1e-6 * exact + 2e-38).all()


def test_sine_keeps_its_scale():
    """SIREN's promise: a layer's output neither dies nor explodes with depth."""
    torch.manual_seed(0)
    config = FieldConfig(activation="sine", layers=6)
    layers = LatentField(config).backbones[0].layers
    x = torch.rand(500, config.width) * 2 - 1
    for layer in layers[1:]:
        x = torch.sin(config.sine_omega * layer(x))
        assert 0.5 < float(x.detach().std()) < 0.9


def test_penalty_spares_the_heads():
    field = LatentField(
        FieldConfig(backbone="separate", latent=5, **{k: SMALL[k] for k in ("width", "layers")})
    )
    penalised = {id(p) for p in field.penalised()}
    heads = {id(p) for head in (field.intensity_head, field.class_head) for p in head.parameters()}
    assert penalised | heads == {id(p) for p in field.parameters()}
    assert not penalised & heads
