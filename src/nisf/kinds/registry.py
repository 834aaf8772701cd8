"""The kinds of field, by the name that ``field.kind`` gives; nothing else in nisf chooses between them."""

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
        prior: saves, loads, and makes subjects of cases, which then answer.
        recipe: sets a training up.
    """

    prior: type[Prior]
    recipe: Callable[[TrainingSetup], Recipe]


# Recipes are imported when something is trained: a segmentation need not wait for them.


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
        BadSettingError: there is none of that name.
    """
    if config.field.kind not in KINDS:
        raise BadSettingError(
            f"field.kind={config.field.kind}: no such kind of field; there are {', '.join(KINDS)}"
        )
    return KINDS[config.field.kind]
