"""Training that goes on from another prior."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import nisf.training.search
import toys
from nisf.errors import NisfError
from nisf.files import read_tensors
from nisf.kinds.load import load_prior
from nisf.prior.fit import fit

pytestmark = pytest.mark.usefixtures("light")
REGION = {"whole": False, "margin_mm": 8.0, "finder_steps": 5}
FEW = {"steps": 3, "checkpoint_every": 4}
KINDS = {
    "latent": toys.settings(toys.TINY, train=FEW, region=REGION),
    "image": toys.settings(toys.IMAGE, train=FEW, region=REGION),
}


@pytest.fixture(scope="module", params=KINDS)
def start(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    return toys.train_toy(folder / request.param, KINDS[request.param], validation=[])


def go_on(start, folder, steps, **options):
    config = toys.settings(start.continued(), train={"steps": steps})
    return toys.train_toy(folder, config, toys.toy_cohort(2, 40), [], start=start, **options)


def test_before_its_first_step_it_is_the_start(start, tmp_path, monkeypatch):
    """Network, region and finder are the start's, and no other finder is trained."""
    monkeypatch.setattr(nisf.training.search, "train_finder", None)
    prior = go_on(start, tmp_path, 0)
    assert prior.fingerprint == start.fingerprint
    np.testing.assert_array_equal(prior.half, start.half)
    assert prior.finder is start.finder
    for name, tensor in start.own_tensors().items():
        if name == "latent.mean":  # of freshly drawn latents around it
            torch.testing.assert_close(prior.own_tensors()[name], tensor, rtol=0, atol=1e-3)
    again = load_prior(tmp_path)
    assert again.finder is not None
    for name, tensor in start.finder.state_dict().items():
        assert torch.equal(again.finder.state_dict()[name], tensor), name


def test_its_first_step_moves_away_from_the_start(start, tmp_path):
    """Trained weights and latents too, not only those that are asked later."""
    rate = start.continued().train.learning_rate
    prior = go_on(start, tmp_path, 1)
    assert prior.fingerprint != start.fingerprint
    for name, tensor in start.field.state_dict().items():
        # Adam's steps are as long as the rate, weight decay shortens the weights by a part of it.
        torch.testing.assert_close(prior.field.state_dict()[name], tensor, rtol=rate, atol=1.1 * rate)
    if start.kind == "latent":
        latents = read_tensors(tmp_path / "checkpoint.safetensors")[0]["latents.weight"]
        expected = start.latent_mean.expand_as(latents)
        torch.testing.assert_close(latents, expected, rtol=0, atol=start.continued().train.latent_rate + 1e-3)


def test_settings_are_its_own_on_fine_canvases(start):
    config = start.continued()
    if start.kind == "image":
        assert config.augment.coarse == 0
    assert replace(config, augment=start.config.augment) == start.config


def test_another_network_or_other_structures_are_refused(start, tmp_path):
    other = toys.settings(start.continued(), field={"width": 9}, image={"hidden": 20})
    with pytest.raises(NisfError, match=r"(latent|image): .*need a network of other sizes"):
        toys.train_toy(tmp_path, other, start=start)
    channels = [replace(c, slices=tuple(map(doubled, c.slices))) for c in toys.toy_cohort(2)]
    with pytest.raises(NisfError, match="the settings or the cases need a network of other sizes"):
        toys.train_toy(tmp_path, start.continued(), channels, start=start)
    start = replace(start, anatomy=replace(toys.ANATOMY, labels=("background", "blood", "scar")))
    with pytest.raises(NisfError, match="structures are background, blood, scar, those of the cases backg"):
        toys.train_toy(tmp_path, start.continued(), start=start)
    assert not list(tmp_path.iterdir())


def test_an_exchange_between_slices_may_be_new(start, tmp_path):
    """It begins by changing nothing; one that is there is not dropped."""
    if start.kind == "latent":
        pytest.skip("has no slices")
    grown = toys.settings(start.continued(), train={"steps": 0}, image={"slice_exchange": 2})
    prior = toys.train_toy(tmp_path / "a", grown, toys.toy_cohort(2, 40), [], start=start)
    case = toys.toy_case(7)
    a, b = (fit(case, p).render(probabilities=True).probability for p in (start, prior))
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert [tuple(part.into.weight.shape) for part in prior.field.encoder.exchange] == [(36, 36), (24, 24)]
    with pytest.raises(NisfError, match="need a network of other sizes"):
        toys.train_toy(tmp_path / "b", start.continued(), start=prior)


def test_how_it_is_asked_may_change(start, tmp_path):
    config = toys.settings(start.continued(), train={"steps": 0}, image={"mirrors": 2, "time_sigma": 0.1})
    prior = toys.train_toy(tmp_path, config, toys.toy_cohort(2, 40), [], start=start)
    assert prior.config.image.mirrors == 2
    for name, tensor in start.field.state_dict().items():
        assert torch.equal(prior.field.state_dict()[name], tensor), name


def doubled(item):
    return replace(item, image=np.repeat(item.image, 2, axis=-1))


def test_resumed_is_undisturbed_and_knows_its_start(start, tmp_path):
    whole = go_on(start, tmp_path / "a", 16)

    def crash(record):
        if record["step"] == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        go_on(start, tmp_path / "b", 16, report=crash)
    identity = json.loads(read_tensors(tmp_path / "b" / "checkpoint.safetensors")[1]["identity"])
    assert identity["start"] == start.fingerprint
    config = toys.settings(start.continued(), train={"steps": 16})
    with pytest.raises(NisfError, match="was made with other start"):
        toys.train_toy(tmp_path / "b", config, toys.toy_cohort(2, 40), [], resume=True)
    with pytest.raises(NisfError, match="was made with other start"):
        go_on(whole, tmp_path / "b", 16, resume=True)
    assert go_on(start, tmp_path / "b", 16, resume=True).fingerprint == whole.fingerprint


def test_licence_of_the_start_holds_on(start, tmp_path):
    begun = replace(start, card={**start.card, "licence": "research only"})
    card = go_on(begun, tmp_path / "a", 0).card
    assert card["licence"] == "research only"
    assert card["start"] == start.fingerprint
    assert go_on(begun, tmp_path / "b", 0, card={"licence": "mine"}).card["licence"] == "mine"
