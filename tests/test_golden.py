"""Answers that are the same on every machine, within a tolerance: a phantom, and weights by a formula.

``python tests/test_golden.py`` writes ``tests/golden/answers.json`` anew, where answers are meant to change.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from nisf.kinds.image.model import ImagePrior
from nisf.kinds.latent.model import LatentPrior
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import LatentField
from nisf.prior.fit import fit

GOLDEN = Path(__file__).parent / "golden" / "answers.json"
TOLERANCE = 1e-4
"""Of intensities in [0, 1] and probabilities: between machines, versions of PyTorch, numbers of threads."""
HALF = np.array([40.0, 40.0, 28.0])


def by_formula(network):
    """Weights of the usual size that no random generator has a say in."""
    for number, weight in enumerate(network.parameters()):
        wave = np.sin(1.7 * np.arange(weight.numel()) + number).reshape(weight.shape)
        fan = weight[0].numel() if weight.ndim > 1 else 1
        # One-dimensional weights are the scales and shifts of norms, and biases.
        values = wave * (2.0 / fan) ** 0.5 if weight.ndim > 1 else 0.5 + 0.1 * wave
        weight.data.copy_(torch.from_numpy(values))
    return network.eval()


def prior_of(kind):
    if kind == "image":
        config = toys.settings(
            toys.IMAGE, field={"classes": 3}, image={"phase_exchange": 1, "slice_exchange": 1, "mirrors": 2}
        )
        field = by_formula(ImageField(config.field, config.image))
        return ImagePrior(config, toys.ANATOMY, field, HALF, None, {})
    config = toys.settings(toys.CONFIG, fit={"steps": 5, "learning_rate": 1e-3})
    field = by_formula(LatentField(config.field))
    mean, covariance = torch.linspace(-0.1, 0.1, config.field.latent), torch.eye(config.field.latent) * 0.01
    parts = (config, toys.ANATOMY, field, HALF, None, {})
    return LatentPrior(*parts, latent_mean=mean, latent_covariance=covariance)


def answers(kind):
    """Intensity on the scale [0, 1] and probabilities at places inside and outside the region (n, 1 + k)."""
    case = toys.toy_case(4, noise=0.0, labelled=False)
    subject = fit(case, prior_of(kind))
    x = np.linspace(-36, 44, 5)
    places = np.stack(np.meshgrid(x, x, [-20.0, 3.0], indexing="ij"), axis=-1).reshape(-1, 3)
    rows = []
    for time in (0.0, 0.4):
        image, probability = subject.query(places, time)
        rows.append(np.c_[image / 1000, probability])
    return np.concatenate(rows)


def write():
    kinds = {kind: np.round(answers(kind), 6).tolist() for kind in ("image", "latent")}
    text = json.dumps(kinds).replace("]], ", "]],\n").replace("], [", "],\n[")
    GOLDEN.write_text(text + "\n", encoding="ascii")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["image", "latent"])
def test_answers_are_those_of_other_machines(kind, threads):
    expected = np.array(json.loads(GOLDEN.read_text(encoding="ascii"))[kind])
    assert np.ptp(expected[:, 0]) > 0.1, "answers that say nothing prove nothing"
    assert np.ptp(expected[:, 2]) > 0.1
    torch.set_num_threads(threads)
    try:
        found = answers(kind)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
    sys.exit(0)
