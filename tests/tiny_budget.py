"""A budget of `nisf paper` for tests: seconds, and nothing is learnt."""

from dataclasses import replace

from nisf.paper.budget import BUDGETS

TINY = replace(
    BUDGETS["minutes"],
    paper=(*BUDGETS["minutes"].paper, "field.width=24", "field.latent=16", "region.finder_steps=20"),
    image=(
        *BUDGETS["minutes"].image,
        *("image.pixels=32", "image.pixel_mm=5.0", "augment.coarse=0", "region.finder_steps=20"),
    ),
    unet_steps=40,
    variant=("train.steps=10", "train.points=64", "fit.steps=5", "fit.points=64", "region.finder_steps=3"),
    test=1,
    curve_steps=20,
    curve_iterations=4,
)
