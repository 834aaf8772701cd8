import pytest
import torch

from nisf.config.schema import FieldConfig
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import FrozenLatentField

SMALL = {"width": 12, "latent": 12, "layers": 4}


@pytest.mark.parametrize("backbone", ["shared", "separate"])
@pytest.mark.parametrize("activation", ["gabor", "sine", "relu", "gabor+relu", "gabor+sine"])
@pytest.mark.parametrize(
    "sizes",
    [{}, {"latent": 5}, {"dimensions": 3}, {"cyclic_time": True, "coordinate_scale": 2.0}, {"channels": 2}],
)
def test_golden(activation, backbone, sizes):
    torch.manual_seed(0)
    config = FieldConfig(**{**SMALL, **sizes}, activation=activation, backbone=backbone)
    field = LatentField(config).double()
    latent = torch.randn(config.latent, dtype=torch.float64)
    frozen = FrozenLatentField(field, latent, 7)
    for n in (7, 3, 1):  # the last chunk of a question is shorter
        coordinates = torch.rand(n, config.dimensions, dtype=torch.float64) * 2 - 1
        expected = field(coordinates[None], latent[None])
        for found, wanted in zip(frozen(coordinates), expected, strict=True):
            torch.testing.assert_close(found, wanted[0].detach(), atol=1e-9, rtol=0)


def test_papers_network_to_within_rounding():
    torch.manual_seed(0)
    field = LatentField(FieldConfig())
    exact = LatentField(FieldConfig()).double()
    exact.load_state_dict(field.state_dict())
    coordinates, latent = torch.rand(500, 4) * 2 - 1, 0.1 * torch.randn(128)
    truth = exact(coordinates[None].double(), latent[None].double())
    plain = field(coordinates[None], latent[None])
    frozen = FrozenLatentField(field, latent, 500)(coordinates)
    for a, b, c in zip(frozen, plain, truth, strict=True):
        rounding = (b[0] - c[0]).abs().max()
        assert (a - c[0]).abs().max() < 4 * rounding
        assert rounding < 1e-3


def test_weights_stay_as_they_were():
    field = LatentField(FieldConfig(**SMALL))
    before = {name: tensor.clone() for name, tensor in field.state_dict().items()}
    FrozenLatentField(field, torch.randn(12), 5)(torch.rand(5, 4))
    for name, tensor in field.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)
    assert all(p.requires_grad for p in field.parameters())
