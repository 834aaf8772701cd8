"""Run by test_fused.py in a process of its own: kernels in Triton's interpreter beside the plain field.

The interpreter has to be chosen before Triton is imported, and kernels do not bear the shape checker.
"""

import json
import sys

import torch

from nisf.config import FieldConfig
from nisf.field import Field
from nisf.fused import fused


def outcome(network, coordinates, latent, weights):
    """Logits and all gradients of a scalar that depends on every one of them unevenly."""
    coordinates, latent = (t.clone().requires_grad_(True) for t in (coordinates, latent))
    for parameter in weights:
        parameter.grad = None
    intensity, classes = network(coordinates, latent)
    ramp = torch.linspace(0.5, 1.5, intensity.shape[1], dtype=intensity.dtype)[:, None]
    (torch.sigmoid(intensity) * ramp).sum().add(
        (torch.softmax(classes, -1)[..., 1:] * ramp).square().sum()
    ).backward()
    grads = [p.grad for p in weights]
    return [intensity, classes, coordinates.grad, latent.grad, *grads]


def worst(found, exact) -> float:
    """Largest difference, relative to the largest entry of each tensor."""
    return max(
        float((a.double() - b).detach().abs().max() / b.detach().abs().max().clamp_min(1e-12))
        for a, b in zip(found, exact, strict=True)
    )


def check(sizes, points, subjects, products, freeze):
    torch.manual_seed(0)
    config = FieldConfig(**sizes)
    field, exact = Field(config), Field(config).double()
    exact.load_state_dict({name: t.double() for name, t in field.state_dict().items()})
    coordinates = torch.rand(subjects, points, config.dimensions) * 2 - 1
    latent = 0.3 * torch.randn(subjects, config.latent)
    if freeze:
        field.requires_grad_(False)
        exact.requires_grad_(False)
    said = []
    fast = fused(field, said.append, products=products, block=16)
    assert fast is not field, said
    weights = [] if freeze else list(field.parameters())
    truth = outcome(exact, coordinates.double(), latent.double(), [] if freeze else list(exact.parameters()))
    return {
        "fused": worst(outcome(fast, coordinates, latent, weights), truth),
        "plain": worst(outcome(field, coordinates, latent, weights), truth),
    }


print(json.dumps([check(**case) for case in json.loads(sys.argv[1])]))
