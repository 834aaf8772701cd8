import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from nisf.data.case import UNKNOWN
from nisf.networks.losses import class_bce, dice_loss, intensity_bce, masked_mean

LOSSES = [class_bce, dice_loss]
seeds = st.integers(0, 10_000)


def example(seed=0, subjects=3, points=40, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(subjects, points, classes, generator=generator, dtype=torch.float64)
    label = torch.randint(classes, (subjects, points), generator=generator)
    return logits, label, torch.ones(subjects, points, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_class_bce_is_pytorchs(seed):
    logits, label, weight = example(seed)
    expected = functional.binary_cross_entropy(
        torch.softmax(logits, -1), functional.one_hot(label, 4).double(), reduction="none"
    )
    torch.testing.assert_close(class_bce(logits, label, weight), expected.mean((1, 2)))


@pytest.mark.parametrize("channels", [1, 3])
def test_intensity_bce_is_pytorchs(channels):
    generator = torch.Generator().manual_seed(channels)
    logits = 3 * torch.randn(2, 30, channels, generator=generator)
    target = torch.rand(2, 30, channels, generator=generator)
    expected = functional.binary_cross_entropy(torch.sigmoid(logits), target, reduction="none")
    found = intensity_bce(logits, target, torch.ones(2, 30))
    torch.testing.assert_close(found, expected.mean((1, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_dice_loss_is_monais(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("monai.losses")
    monai = losses.DiceLoss(include_background=True, smooth_nr=1e-5, smooth_dr=1e-5, squared_pred=False)
    logits, label, weight = example(seed)
    found = dice_loss(logits, label, weight)
    for i in range(len(logits)):
        p = torch.softmax(logits[i], -1).T[None]
        target = functional.one_hot(label[i], 4).double().T[None]
        torch.testing.assert_close(found[i], monai(p, target))


def test_perfect_and_opposite_answers():
    _, label, weight = example()
    right = 50.0 * functional.one_hot(label, 4).double()
    assert class_bce(right, label, weight).max() < 1e-6
    assert dice_loss(right, label, weight).max() < 1e-6
    assert class_bce(-right, label, weight).min() > 1
    assert dice_loss(-right, label, weight).min() > 0.9


@given(seeds, st.sampled_from(LOSSES), st.booleans())
def test_unknown_and_padding_have_no_influence(seed, loss, padding):
    logits, label, weight = example(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    silent = torch.rand(label.shape, generator=generator) < 0.4
    if padding:
        weight = weight.masked_fill(silent, 0)
    else:
        label = label.masked_fill(silent, UNKNOWN)
    noise = 100 * torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    other = torch.where(silent[..., None], noise, logits)
    # In padding, the label may be anything too.
    other_label = label.masked_fill(silent, 2) if padding else label
    results = []
    for values, class_labels in ((logits, label), (other, other_label)):
        values = values.clone().requires_grad_(True)
        out = loss(values, class_labels, weight)
        (gradient,) = torch.autograd.grad(out.sum(), values)
        assert (gradient[silent] == 0).all()
        results.append((out.detach(), gradient[~silent]))
    torch.testing.assert_close(results[0], results[1])
    # The same as if those points had never been there.
    for i in range(len(logits)):
        keep = ~silent[i]
        alone = loss(logits[i : i + 1, keep], label[i : i + 1, keep], weight[i : i + 1, keep])
        torch.testing.assert_close(results[0][0][i : i + 1], alone)


@given(seeds)
def test_intensity_of_padding_has_no_influence(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 30, 2, generator=generator).requires_grad_(True)
    target = torch.rand(2, 30, 2, generator=generator)
    weight = (torch.rand(2, 30, generator=generator) < 0.5).float()
    loss = intensity_bce(logits, target, weight)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert (gradient[weight == 0] == 0).all()
    hidden = (weight == 0)[..., None]
    other = intensity_bce(torch.where(hidden, 77.0, logits), torch.where(hidden, 0.3, target), weight)
    torch.testing.assert_close(other, loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_known_is_no_loss(loss):
    logits, label, weight = example()
    logits.requires_grad_(True)
    out = loss(logits, torch.full_like(label, UNKNOWN), weight)
    assert out.tolist() == [0, 0, 0]
    (gradient,) = torch.autograd.grad(out.sum(), logits)
    assert (gradient == 0).all()


@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_extreme_logits(size, dtype):
    _, label, _ = example()
    logits = (size * functional.one_hot((label + 1) % 4, 4)).to(dtype).requires_grad_(True)
    weight = torch.ones(label.shape, dtype=dtype)
    target = functional.one_hot(label, 4).to(dtype)
    for out in (
        class_bce(logits, label, weight),
        dice_loss(logits, label, weight),
        intensity_bce(logits, target, weight),
    ):
        (gradient,) = torch.autograd.grad(out.sum(), logits)
        assert torch.isfinite(out).all()
        assert torch.isfinite(gradient).all()


def test_terms_are_per_subject():
    logits, label, weight = example()
    for loss in LOSSES:
        together = loss(logits, label, weight)
        assert together.shape == (3,)
        for i in range(3):
            rows = slice(i, i + 1)
            torch.testing.assert_close(loss(logits[rows], label[rows], weight[rows]), together[rows])


def test_masked_mean():
    values = torch.tensor([[1.0, 3.0, 5.0], [1.0, 1.0, 1.0]])
    weight = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert masked_mean(values, weight).tolist() == [2, 0]
