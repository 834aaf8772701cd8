"""The needs of experiments: priors to train, and computations whose results are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nisf.paper.costs import Costs
from nisf.paper.methods import FROZEN, path_name
from nisf.paper.study import Study, Variant

NETWORK = "U-Net"


@dataclass(frozen=True)
class Training:
    """A prior or network that is trained once for all experiments.

    Attributes:
        name: name of the prior; equal names mean the same prior.
        there: whether it is trained already.
        seconds: estimate.
    """

    name: str
    there: bool = field(compare=False)
    seconds: Callable[[Costs], float] = field(compare=False)


@dataclass(frozen=True)
class Part:
    """Equal pieces of work, each of which leaves a file.

    Attributes:
        what: description.
        files: pattern of the files in the study's folder ``work``; equal patterns mean the same work.
        count: number of pieces.
        seconds: estimate for one piece.
    """

    what: str = field(compare=False)
    files: str
    count: int = field(compare=False)
    seconds: Callable[[Costs], float] = field(compare=False)

    def left(self, study: Study) -> int:
        """Number of pieces still to do."""
        return max(0, self.count - len(list((study.output / "work").glob(self.files))))


@dataclass(frozen=True)
class Needs:
    """The needs of one experiment, in order."""

    trainings: tuple[Training, ...] = ()
    parts: tuple[Part, ...] = ()


def of_paper(study: Study) -> Training:
    """The prior with the paper's network."""
    return of_variant(study, study.paper)


def of_variant(study: Study, variant: Variant) -> Training:
    """A prior with fitted latents."""
    return Training(
        variant.name, study.trained(variant.name), lambda costs: costs.latent_training(variant.config)
    )


def of_image(study: Study) -> Training:
    """The image-conditioned prior."""
    name, config = study.image.name, study.image.config
    return Training(name, study.trained(name), lambda costs: costs.image_training(config))


def of_network(study: Study) -> Training:
    """The U-Net used for comparison."""
    return Training(NETWORK, study.trained("unet"), lambda costs: costs.network_training())


def scored(study: Study, way: str, methods: Iterable[str]) -> tuple[Part, ...]:
    """Scores of methods on every test subject.

    Args:
        study: the study.
        way: how slices are hidden or images resampled, as in the folder names of `score_method`.
        methods: their names.
    """
    return tuple(
        Part(
            f"{method}, {way}",
            f"scores/{path_name(method)}/{way}/*.json",
            len(study.files["test"]),
            lambda costs, method=method: costs.subject(method),
        )
        for method in methods
    )


def of_variants(study: Study, variants: Iterable[Variant]) -> Needs:
    """Priors that differ in one setting, and their scores; equal names mean the same prior."""
    found = list({variant.name: variant for variant in variants}.values())
    return Needs(
        tuple(of_variant(study, variant) for variant in found),
        tuple(
            Part(
                f"fits with {variant.name}",
                f"variants/{variant.name}.json",
                1,
                lambda costs, variant=variant: study.budget.curve_cases * costs.latent_fit(variant.config, 0),
            )
            for variant in found
        ),
    )


def one_fit(costs: Costs) -> float:
    """Seconds to fit a subject with frozen weights."""
    return costs.subject(FROZEN)
