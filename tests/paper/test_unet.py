from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.data.region import whole_region
from nisf.errors import NisfError
from nisf.paper.unet import UNetTraining, segment_slices, trained_unet, unet


@pytest.fixture(scope="module")
def prior(toy_image_prior):
    """The toys' prior without coarse canvases: the U-Net halves them four times."""
    config = toy_image_prior.config
    return replace(toy_image_prior, config=replace(config, augment=replace(config.augment, coarse=0.0)))


@pytest.fixture(scope="module")
def trained(toy_cohort, prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    network = trained_unet(lambda: toy_cohort, prior, 40, folder, lambda _: None)
    return folder, network


def test_learns_toys(trained, prior):
    _, network = trained
    case = toys.toy_case(90)
    slices = segment_slices(network, case, whole_region(case), prior)
    assert set(slices) == {(s.position, s.frame) for s in case.slices}
    found = np.stack([slices[s.position, s.frame] for s in case.slices]) > 0
    true = np.stack([s.label for s in case.slices]) > 0
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.8


def test_is_read_again(trained, prior):
    folder, network = trained

    def never():
        raise AssertionError("trained again")

    again = trained_unet(never, prior, 40, folder, lambda _: None)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_foreign_weights(prior, tmp_path):
    from nisf.files import write_tensors

    write_tensors(tmp_path / "unet.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(NisfError, match="another network"):
        trained_unet(list, prior, 1, tmp_path, lambda _: None)


def test_one_step_depends_on_seed_and_step_alone(toy_cohort, prior):
    recipes = [UNetTraining(toy_cohort, prior) for _ in range(2)]
    losses = [float(recipe.loss(7)[0].detach()) for recipe in recipes]
    assert losses[0] == losses[1]
    assert losses[0] != float(recipes[0].loss(8)[0].detach())


def test_a_step_on_another_device(toy_cohort, prior):
    """PyTorch's meta device stands in for a GPU; see tests/test_device.py."""
    recipe = UNetTraining(toy_cohort, prior, torch.device("meta"))
    loss, terms = recipe.loss(0)
    recipe.state.descend(loss)
    assert {term.device.type for term in terms.values()} == {"meta"}


def test_volumes_of_a_step_do_not_mix(toy_cohort, prior):
    """They are segmented in one batch, each slice on its own."""
    recipe = UNetTraining(toy_cohort, prior)
    together = torch.cat([drawn.images for drawn in recipe.drawn(0, prior.config.image)])
    one = recipe.drawn(0, prior.config.image)[0].images
    torch.testing.assert_close(recipe.online(together)[: len(one)], recipe.online(one), atol=1e-4, rtol=1e-4)


def test_without_monai(prior, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "monai.networks.nets.basic_unet", None)
    with pytest.raises(NisfError, match=r"nisf\[paper\]"):
        unet(prior)
