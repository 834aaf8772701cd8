"""CapturedSteps that are made on the device, against samples drawn one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.config.schema import Config
from nisf.device import CPU
from nisf.kinds.image.augment import Sample, phase_stacks
from nisf.kinds.image.objective import image_objective
from nisf.kinds.image.recipe import CapturedSteps, ImageRecipe
from nisf.kinds.image.resident import Resident, batch_objective
from nisf.kinds.image.samples import Sampler
from nisf.kinds.recipe import TrainingSetup
from nisf.networks.image_field import ImageField
from nisf.prior.region_search import RegionSearch

SCANNERS = {
    "coil": 2.3,
    "curve": 0.5,
    "cut": 0.5,
    "stretch": 0.3,
    "sharpen": 0.5,
    "noise_profile": 1.0,
    "ghost": 0.2,
    "noise": 0.0,
    "coarse": 0.0,
}


def settings(phases: int = 2, **augment: float) -> Config:
    config = toys.settings(
        toys.IMAGE,
        image={"phase_exchange": phases, "slice_exchange": 2},
        augment={**SCANNERS, **augment},
        train={"subjects": 3, "points": 64},
    )
    return replace(config, field=replace(config.field, classes=3))


def the_pool(config: Config) -> list:
    pool = []
    for seed in range(4):
        case = toys.toy_case(seed)
        pool.append(phase_stacks(case, case.stacks[0].grid.centre(), config.image.pixel_mm))
    # One with fewer slices, one with a single phase: not all batches are full.
    pool[0] = [
        replace(s, images=s.images[:4], labels=s.labels[:4], z=s.z[:4], middle=s.middle[:4]) for s in pool[0]
    ]
    pool[1] = pool[1][:1]
    return pool


@pytest.mark.parametrize("phases", [0, 2])
def test_the_same_samples(phases):
    config = settings(phases)
    pool = the_pool(config)
    resident = Resident(pool, config, config.augment, CPU)
    sampler = Sampler(pool, config, config.augment)
    for step in range(6):
        batch = resident.batch(resident.numbers(step), config.image)
        images = batch.images.unflatten(0, batch.given.shape)
        for number, drawn in enumerate(sampler(step, config.image)):
            for phase, sample in enumerate(drawn):
                row = number * resident.phases + phase
                seen = batch.given[row] > 0
                torch.testing.assert_close(images[row][seen], sample.images, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(batch.maps[row][seen], sample.maps)
                assert (images[row][~seen] == 0).all()


def apart(batch, phases: int) -> tuple[list[Sample], list[int]]:
    """A batch as samples of given slices only, and how many are phases of one subject."""
    b, n = batch.given.shape
    images = batch.images.unflatten(0, (b, n))
    intensity, label, weight = (x.unflatten(0, (b, -1)) for x in (batch.intensity, batch.label, batch.weight))
    samples, together = [], []
    for subject, mix in enumerate(batch.mix):
        count = 1 if torch.equal(mix, torch.eye(phases)) else phases
        together.append(count)
        for row in range(subject * phases, subject * phases + count):
            seen, asked = batch.given[row] > 0, weight[row] > 0
            samples.append(
                Sample(
                    images[row][seen], batch.maps[row][seen], batch.points[row][asked], intensity[row][asked],
                    label[row][asked],
                )
            )  # fmt: skip
    return samples, together


def test_the_same_objective_and_gradient():
    config = settings()
    pool = the_pool(config)
    resident = Resident(pool[2:], config, config.augment, CPU)
    torch.manual_seed(0)
    field = ImageField(config.field, config.image)
    for module in (*field.encoder.exchange, *field.encoder.moments):
        torch.nn.init.normal_(module.into.weight, std=0.1)
    compared = 0
    for step in range(8):
        batch = resident.batch(resident.numbers(step), config.image)
        samples, together = apart(batch, 2)
        if 1 in together:
            continue  # it is there twice in a batch, once among the samples
        compared += 1
        outcomes = []
        for loss, _ in (
            batch_objective(field, batch, config.train),
            image_objective(field, samples, config.train, together),
        ):
            field.zero_grad()
            loss.backward()
            outcomes.append([loss.detach(), *(p.grad.clone() for p in field.parameters())])
        for ours, theirs in zip(*outcomes, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-3)
    assert compared >= 3


def test_slots_without_slices_do_not_count():
    """Whatever is in them: more slots, the same answer."""
    config = settings(window=6)
    pool = [the_pool(config)[0]]
    field = ImageField(config.field, config.image)
    few, many = (Resident(p, config, config.augment, CPU) for p in (pool, pool))
    many.slots = few.slots + 2
    losses = []
    for resident in (few, many):
        batch = resident.batch(resident.numbers(1), config.image)
        batch = replace(batch, label=batch.label, points=batch.points)
        features, latents = field.encoder(batch.images, batch.maps, batch.mix)
        points = torch.linspace(-20, 20, 60).reshape(1, 20, 3).expand(len(batch.given), 20, 3)
        b, n = batch.given.shape
        latent = (latents.reshape(b, n, -1) * batch.given[..., None]).sum(1) / batch.given.sum(
            1, keepdim=True
        )
        losses.append(field.of_scenes(features, batch.maps, latent, points)[1])
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-3)


def recipe_of(config: Config, resident: bool) -> ImageRecipe:
    cases = [toys.toy_case(seed) for seed in range(4)]
    search = RegionSearch(np.array([44.0, 44.0, 35.0]))
    setup = TrainingSetup(cases, [], toys.ANATOMY, config, search, print, CPU)
    torch.manual_seed(0)
    recipe = ImageRecipe(setup)
    if resident:
        pool = recipe.samples.draw.pool
        recipe.on_device = CapturedSteps(recipe, Resident(pool, config, config.augment, CPU))
    return recipe


def test_learns():
    config = settings(coil=0.0, cut=0.0, curve=0.0)
    recipe = recipe_of(config, resident=True)
    losses = []
    for step in range(40):
        losses.append(float(recipe.descend(step)["loss"]))
        recipe.after_step()
        recipe.state.step += 1
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    assert all(torch.isfinite(p).all() for p in recipe.field.parameters())


def test_coarse_canvases_first():
    config = settings(coarse=0.5)
    recipe = recipe_of(replace(config, train=replace(config.train, steps=10)), resident=True)
    sizes = []
    for place in (0, 4, 5, 9):
        recipe.state.place = place
        recipe.descend(place)
        sizes.append(recipe.on_device._image.pixels)
    assert sizes == [16, 16, 32, 32]
