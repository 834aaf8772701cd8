"""The kinds of field, by the value of ``field.kind``; no other module distinguishes between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nisf.config.schema import Config
from nisf.errors import BadSettingError
from nisf.kinds.image.model import ImagePrior
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.recipe import Recipe, TrainingSetup
from nisf.prior.prior import Prior


@dataclass(frozen=True)
class Kind:
    """One kind of field.

    Attributes:
        prior: class of the kind's priors, which make subjects from cases.
        recipe: makes the recipe of a training.
    """

    prior: type[Prior]
    recipe: Callable[[TrainingSetup], Recipe]


# Recipes are imported for training only, which keeps segmentation quick to start.


def _latent_recipe(setup: TrainingSetup) -> Recipe:
    from nisf.kinds.latent.recipe import LatentRecipe

    return LatentRecipe(setup)


def _image_recipe(setup: TrainingSetup) -> Recipe:
    from nisf.kinds.image.recipe import ImageRecipe

    return ImageRecipe(setup)


KINDS: dict[str, Kind] = {
    "latent": Kind(LatentPrior, _latent_recipe),
    "image": Kind(ImagePrior, _image_recipe),
}


def kind_of(config: Config) -> Kind:
    """The kind of field that the settings name.

    Raises:
        BadSettingError: there is no kind of that name.
    """
    if config.field.kind not in KINDS:
        raise BadSettingError(
            f"field.kind={config.field.kind}: no such kind of field; there are {', '.join(KINDS)}"
        )
    return KINDS[config.field.kind]
