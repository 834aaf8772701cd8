"""Budgets of the experiments: three sizes, from a minute on phantoms to the paper's own numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nisf.config.overrides import override
from nisf.config.presets import preset
from nisf.config.schema import Config
from nisf.errors import BadSettingError


@dataclass(frozen=True)
class Budget:
    """What is trained and fitted, and for how long.

    Attributes:
        name: as given by the user.
        paper: settings on top of the preset ``paper``, for the prior with the paper's network.
        image: settings on top of the preset ``image``.
        unet_steps: optimiser steps of the U-Net.
        base: preset of the variants (ablations, sparse data).
        variant: settings on top of it.
        test: maximum number of test subjects.
        curve_cases: number of test subjects for curves over inference steps, and for scores of variants.
        curve_steps: last step of Adam's curves.
        curve_iterations: last iteration of the second-order curves.
        unfrozen_cases: number of validation subjects that choose the step count of fits with free weights.
        snapshots: fractions of the training after which the prior is kept for figure 3.
    """

    name: str
    paper: tuple[str, ...]
    image: tuple[str, ...]
    unet_steps: int
    base: str
    variant: tuple[str, ...]
    test: int
    curve_cases: int
    curve_steps: int
    curve_iterations: int
    unfrozen_cases: int
    snapshots: tuple[float, ...] = (0.02, 0.1, 0.3, 1.0)

    def paper_config(self) -> Config:
        """Settings of the prior with the paper's network."""
        return override(preset("paper"), self.paper)

    def image_config(self) -> Config:
        """Settings of the image-conditioned prior."""
        return override(preset("image"), self.image)

    def variant_config(self, *settings: str) -> Config:
        """Settings of a variant."""
        return override(preset(self.base), (*self.variant, *settings))


_TINY = ("train.validate_cases=1", "train.compile=false", "region.finder_steps=60")

BUDGETS = {
    budget.name: budget
    for budget in (
        # Too short to learn anything; it shows that everything runs.
        Budget(
            "minutes",
            paper=(
                *("train.steps=150", "train.points=512", "region.whole=false", "train.schedule=cosine"),
                *("train.subjects=4", "fit.steps=30", "fit.points=512", "fit.growth=3", "fit.iterations=5"),
                *("train.validate_points=256", "field.layers=3", "fit.points_last=512", *_TINY),
                # The paper's own activation does not learn within so few steps.
                *("field.activation=sine", "field.sine_omega=15", "field.coordinate_scale=6"),
                *("train.learning_rate=2e-3", "train.latent_rate=2e-2", "train.latent_rows=true"),
                *("fit.learning_rate=1e-2",),
            ),
            image=(
                *("train.steps=150", "image.width=8", "image.levels=3", "image.pixels=64"),
                *("image.pixel_mm=2.5", "augment.coarse_pixels=32", "train.points=256", *_TINY),
            ),
            unet_steps=60,
            base="demo",
            variant=("train.steps=100", "train.points=256", "fit.steps=30", "fit.points=256", *_TINY),
            test=2,
            curve_cases=2,
            curve_steps=40,
            curve_iterations=8,
            unfrozen_cases=1,
        ),
        Budget(
            "hours",
            paper=(
                *("train.steps=5000", "train.points=8192", "train.validate_every=0", "region.whole=false"),
                *("fit.steps=1000", "fit.points=2048", "train.checkpoint_every=100"),
            ),
            image=("train.steps=5000",),
            unet_steps=5000,
            base="cpu",
            variant=(
                *("train.steps=1000", "train.points=1024", "train.validate_every=0", "fit.steps=300"),
                "region.finder_steps=200",
            ),
            test=20,
            curve_cases=8,
            curve_steps=2000,
            curve_iterations=200,
            unfrozen_cases=4,
        ),
        # For a GPU, or a CPU with much time.
        Budget(
            "paper",
            paper=(),
            image=("train.steps=20000",),
            unet_steps=20000,
            base="paper",
            variant=(),
            test=100,
            curve_cases=50,
            curve_steps=2000,
            curve_iterations=200,
            unfrozen_cases=50,
        ),
    )
}


def budget(name: str, test: int | None = None) -> Budget:
    """The budget called ``name``, optionally with another number of test subjects.

    Raises:
        BadSettingError: there is no such budget, or no test subject is left.
    """
    if name not in BUDGETS:
        raise BadSettingError(f"{name}: no such budget; there are {', '.join(BUDGETS)}", options=["budget"])
    if test is not None and test < 1:
        raise BadSettingError(f"{test} test subjects; give at least 1", options=["test"])
    found = BUDGETS[name]
    return found if test is None else replace(found, test=test)
