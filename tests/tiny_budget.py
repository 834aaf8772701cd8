"""A budget of `nisf paper` for tests: seconds, and nothing is learnt."""

from dataclasses import replace

from nisf.paper.budget import BUDGETS

FEW = (
    *("train.steps=4", "train.validate_every=0", "fit.steps=4", "fit.iterations=3", "region.finder_steps=3"),
    *("fit.points_last=128", "fit.points=64"),
)
TINY = replace(
    BUDGETS["minutes"],
    paper=(*BUDGETS["minutes"].paper, "field.width=24", "field.latent=16", *FEW, "train.steps=20"),
    image=(
        *BUDGETS["minutes"].image,
        *("image.pixels=32", "image.pixel_mm=5.0", "image.width=4", "augment.coarse=0", *FEW),
    ),
    unet_steps=2,
    variant=(*FEW, "train.points=64", "field.width=16", "field.latent=8", "region.whole=true"),
    test=1,
    curve_steps=20,
    curve_iterations=4,
)
