from dataclasses import replace

import pytest
import torch
from torch import nn

import toys
from nisf.config.presets import preset
from nisf.config.schema import TrainConfig
from nisf.kinds.latent.recipe import latent_state
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import LatentField
from nisf.optimisation.muon import LEAST, Muon, orthogonal, weight_optimisers


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (32, 32)])
def test_singular_values_come_near_one(shape):
    """Whatever they were; directions stay."""
    u, _, vt = torch.linalg.svd(matrix(*shape), full_matrices=False)
    found = orthogonal(u * torch.logspace(0, -1.5, len(vt)) @ vt * 1e-3)
    inside = u.T @ found @ vt.T
    assert (inside.diag() > 0.6).all()
    assert (inside.diag() < 1.25).all()
    torch.testing.assert_close(inside - inside.diag().diag(), torch.zeros_like(inside), atol=1e-4, rtol=0)
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
@pytest.mark.parametrize("shape", [(24, 60), (60, 24)])
def test_agrees_with_pytorchs(shape):
    """Which computes in bf16, on matrices."""
    ours, theirs = (nn.Parameter(matrix(*shape)) for _ in range(2))
    settings = {"lr": 0.02, "weight_decay": 0.1}
    peer = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    both = ((ours, Muon([ours], **settings)), (theirs, peer))
    for step in range(6):
        for weight, optimiser in both:
            weight.grad = matrix(*shape, seed=step + 1)
            optimiser.step()
    moved = (theirs - matrix(*shape)).norm()
    assert (ours - theirs).norm() < 0.02 * moved


def test_a_kernel_is_a_matrix_with_a_row_an_output():
    flat = nn.Parameter(matrix(20, 45))
    kernel = nn.Parameter(flat.detach().clone().reshape(20, 5, 3, 3))
    for weight in (flat, kernel):
        weight.grad = matrix(20, 45, seed=1).reshape(weight.shape)
        Muon([weight], lr=0.1).step()
    assert torch.equal(kernel.flatten(1), flat)
    # Entries move by about a fifth of the rate, as Adam's do.
    moved = (flat - matrix(20, 45)).square().mean().sqrt()
    assert 0.7 < moved / (0.2 * 0.1) < 1.25


def test_what_has_no_gradient_stays_and_a_closure_is_called():
    still, moving = nn.Parameter(matrix(20, 20)), nn.Parameter(matrix(20, 20))
    optimiser = Muon([still, moving], lr=0.1)

    def closure():
        loss = moving.square().sum()
        loss.backward()
        return loss.item()

    assert optimiser.step() is None
    assert optimiser.step(closure) == pytest.approx(matrix(20, 20).square().sum().item())
    assert torch.equal(still, matrix(20, 20))
    assert not torch.equal(moving, matrix(20, 20))


def test_the_ends_of_a_network_are_left_to_adam():
    config = preset("image")
    field = ImageField(config.field, config.image)
    names = {id(weight): name for name, weight in field.named_parameters()}
    muon = replace(config.train, optimiser="muon")
    adam, inner = weight_optimisers(field, muon, 1e-4)
    of_adam, of_muon = (
        {names[id(weight)]: weight for group in optimiser.param_groups for weight in group["params"]}
        for optimiser in (adam, inner)
    )
    assert set(of_adam) | set(of_muon) == set(names.values())
    assert not set(of_adam) & set(of_muon)
    assert {"head.weight", "direct.weight", "each.0.bias"} <= set(of_adam)
    assert {"encoder.down.1.0.weight", "encoder.exchange.0.into.weight", "join.2.weight"} <= set(of_muon)
    assert all(min(weight.flatten(1).shape) >= LEAST for weight in of_muon.values())
    for optimiser in (adam, inner):
        assert {(g["lr"], g["weight_decay"]) for g in optimiser.param_groups} == {(muon.learning_rate, 1e-4)}
    assert len(weight_optimisers(field, replace(muon, optimiser="adam"), 0.0)) == 1
    assert len(weight_optimisers(nn.Linear(3, 3), muon, 0.0)) == 1


def test_auto_decoders_may_use_it_too():
    config = toys.settings(field={"width": 24}, train={"optimiser": "muon"})
    state = latent_state(LatentField(config.field), config.train, 3)
    assert [type(o) for o in state.optimisers] == [torch.optim.AdamW, Muon, torch.optim.Adam]
    assert TrainConfig().optimiser == "adam"  # the paper's


def test_together_is_one_by_one():
    """With its rate in a tensor, as on a GPU, a step does the same in few calls."""
    shapes = [(20, 3, 4, 4), (32, 32), (64, 20, 3, 3), (18, 100), (700, 24), (24, 700)]
    torch.manual_seed(0)
    one = [nn.Parameter(torch.randn(*shape)) for shape in shapes]
    other = [nn.Parameter(weight.detach().clone()) for weight in one]
    plain, tensor = Muon(one, 0.02, 0.1), Muon(other, torch.tensor(0.02), 0.1)
    for step in range(3):
        for a, b in zip(one, other, strict=True):
            a.grad = torch.randn(a.shape) if step else a.detach() ** 3
            b.grad = a.grad.clone()
        plain.step()
        tensor.step()
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)
