"""Toy subjects made of a few ellipsoids: quick to make, quick to learn, true anywhere in space."""

import re
from dataclasses import replace

import numpy as np

from nisf.config.schema import Config, FieldConfig, FitConfig, RegionConfig, TrainConfig
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case, Stack, intensity_range, slices_of_volume
from nisf.data.geometry import Affine, Grid, cycle_times

LABELS = ("background", "blood", "muscle")
ANATOMY = Anatomy("toy", LABELS, ("#000000", "#ff0000", "#00ff00"), {"by": "blood"}, reorder=True)
CONFIG = Config(
    preset="toy",
    field=FieldConfig(latent=12, width=24, layers=3, classes=3, gabor_omega=3.0, gabor_sigma=3.0),
    train=TrainConfig(
        steps=150,
        subjects=4,
        points=512,
        learning_rate=1e-2,
        latent_rate=1e-2,
        weight_l2=1e-6,
        compile=False,
        validate_every=0,
        validate_points=512,
        checkpoint_every=20,
    ),
    fit=FitConfig(steps=150, learning_rate=1e-2, points=512),
    region=RegionConfig(whole=True),
)


def settings(config=CONFIG, **changes):
    """The configuration with entries of its parts replaced: ``train={"steps": 3}``."""
    for part, entries in changes.items():
        config = replace(config, **{part: replace(getattr(config, part), **entries)})
    return config


TINY = settings(
    field={"width": 10, "latent": 8, "layers": 2},
    train={
        "steps": 50,
        "subjects": 2,
        "points": 64,
        "checkpoint_every": 20,
        "validate_every": 20,
        "validate_points": 64,
    },
    fit={"steps": 12},
)


IMAGE = settings(
    field={"kind": "image"},
    image={"pixels": 32, "pixel_mm": 4.0, "width": 12, "levels": 3, "features": 8, "latent": 4, "hidden": 24},
    augment={"centre_mm": 4.0, "window": 6, "coarse": 0.5, "coarse_pixels": 16},
    train={
        "steps": 130,
        "subjects": 2,
        "points": 128,
        "learning_rate": 1e-2,
        "alpha": 0.5,
        "schedule": "cosine",
        "weight_l2": 1e-4,
    },
    region={"whole": False, "finder_steps": 24},
)


def rotation(seed):
    """A random rotation matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def toy_grid(shape=(24, 24, 6), frames=2, spacing=(4.0, 4.0, 10.0), axes=None, centre=(0.0, 0.0, 0.0)):
    """A grid centred on ``centre``."""
    axes = np.eye(3) if axes is None else axes
    first = np.asarray(centre) - axes @ ((np.array(shape) - 1) / 2 * np.array(spacing))
    return Grid(shape, Affine.from_axes(axes, spacing, first), cycle_times(frames))


def toy_case(seed=0, grid=None, shift=(0.0, 0.0, 0.0), *, labelled=True, noise=0.02):
    """A blood pool in a muscle that tapers along the stack and beats; dark outside.

    The heart sits at the grid's centre moved by ``shift`` mm along the grid's axes; its size, bulge
    and brightness depend on ``seed``.
    """
    grid = toy_grid() if grid is None else grid
    rng = np.random.default_rng(seed)
    radius, wall, muscle = rng.uniform(14, 20), rng.uniform(8, 12), rng.uniform(0.35, 0.5)
    bulge = rng.uniform(0.85, 1.2)
    pose = Affine.rigid(grid.affine.axes.T, grid.centre())
    x, y, z = np.moveaxis(pose(grid.points()) - np.asarray(shift), -1, 0)
    image = np.zeros((*grid.shape, len(grid.times), 1), dtype=np.float32)
    label = np.zeros(image.shape[:-1], dtype=np.int16)
    for t, time in enumerate(grid.times):
        inner = radius * (0.8 + 0.2 * np.cos(2 * np.pi * time))
        taper = 1 - z / 100  # larger at the beginning of the stack
        distance = np.sqrt((x / bulge) ** 2 + (y * bulge) ** 2) / taper
        long = np.abs(z) < 24
        blood, wall_ = (distance < inner) & long, (distance >= inner) & (distance < radius + wall) & long
        label[..., t] = blood + 2 * wall_
        image[..., t, 0] = 0.9 * blood + muscle * wall_ + 0.1 * (~blood & ~wall_)
    image = 1000 * (image + noise * rng.normal(size=image.shape)).astype(np.float32)
    slices = slices_of_volume(image, label if labelled else None, grid)
    stack = Stack("sa", grid, intensity_range=intensity_range(image))
    return Case(f"toy{seed}", (stack,), slices, LABELS, frozenset(LABELS[1:]))


def toy_cohort(count=6, first=0, **options):
    """``count`` different subjects."""
    return [toy_case(seed, **options) for seed in range(first, first + count)]


def dice(a, b, label):
    """Dice of two label volumes."""
    return 2 * ((a == label) & (b == label)).sum() / ((a == label).sum() + (b == label).sum())


def label_of(case):
    """The labels of a volume's slices put together again (x, y, z, t)."""
    shape = (*case.stacks[0].grid.shape, len(case.stacks[0].grid.times))
    out = np.zeros(shape, dtype=np.int16)
    for item in case.slices:
        out[:, :, item.position, item.frame] = item.label
    return out


def image_of(case):
    """The images of a volume's slices put together again (x, y, z, t, c)."""
    grid = case.stacks[0].grid
    out = np.zeros((*grid.shape, len(grid.times), case.channels), dtype=np.float32)
    for item in case.slices:
        out[:, :, item.position, item.frame] = item.image
    return out


def shown(thing):
    """Its repr, which must be one short line and never the numbers of an array."""
    text = repr(thing)
    assert "\n" not in text
    assert len(text) < 100
    assert not re.search(r"array\(|tensor\(|\[", text)
    return text


def train_toy(folder, config=TINY, cases=None, validation=None, **options):
    """Train on three toy subjects, validate on a fourth."""
    from nisf.training.train import TrainOptions, train

    cases = toy_cohort(3) if cases is None else cases
    validation = [toy_case(80)] if validation is None else validation
    options = TrainOptions(**{"say": lambda _: None, **options})
    return train(cases, validation, ANATOMY, config, folder, options)


def setup_of(cases, config=TINY, device=None, validation=()):
    """What a recipe is set up with: the whole field of view, nothing said."""
    import torch

    from nisf.kinds.recipe import TrainingSetup
    from nisf.prior.region_search import RegionSearch

    device = torch.device("cpu") if device is None else device
    return TrainingSetup(cases, validation, ANATOMY, config, RegionSearch(None), lambda _: None, device)


def ramp_orienter(pixel_mm):
    """An orienter that is sure of the way in which brightness grows along the first axis, then the second."""
    import torch
    from torch import nn

    from nisf.networks.orienter import Orienter

    orienter, steps = Orienter(pixel_mm), torch.linspace(-1, 1, 64)
    orienter.features, ramp = nn.Identity(), nn.Linear(64 * 64, 1)
    with torch.no_grad():
        ramp.weight[:] = 100 * (steps[:, None] + 0.4 * steps).flatten()
    orienter.head = nn.Sequential(nn.Flatten(), ramp)
    return orienter.eval().requires_grad_(False)
