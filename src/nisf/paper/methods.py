"""The compared methods, each as a function from a case to a segmentation on its grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nisf.config.schema import FitConfig
from nisf.data.case import Case
from nisf.data.hiding import hide
from nisf.errors import CannotFitError, NisfError
from nisf.evaluation.metrics import Score
from nisf.evaluation.scores import score_case
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.latent.validation import point_dice, scored_points, step_counts
from nisf.paper.interpolation import How, interpolated
from nisf.paper.resample import on_grid, resampled
from nisf.paper.study import Study
from nisf.paper.unet import segment_slices, trained_unet
from nisf.paper.unfrozen import fit_all, fit_unfrozen
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.subject.subject import Subject

FROZEN, UNFROZEN, SECOND, OURS = "frozen weights", "unfrozen weights", "second order", "image-conditioned"
UNET, UNET_SHAPE, UNET_NEAREST = "U-Net", "U-Net + shape", "U-Net + nearest"
REFERENCE_SHAPE = "reference + shape"
PAPER = "the paper"

Segment = Callable[[Case, Case], np.ndarray]
"""Returns classes on the reference stack's grid (x, y, z, t) from the seen part and the whole case."""


@dataclass(frozen=True)
class Method:
    """One way to segment.

    Attributes:
        name: in the tables.
        segment: runs it.
        settings: everything that its result depends on besides the case, for `Study.once`.
    """

    name: str
    segment: Segment
    settings: Mapping[str, Any]


def path_name(method: str) -> str:
    """A method's name as part of a path."""
    return method.replace(" ", "-").replace("+", "and")


def by_prior(name: str, prior: Prior, config: FitConfig | None = None) -> Method:
    """A fit with frozen weights, or an encoding of the slices, depending on the prior."""
    chosen = config or prior.config.fit

    def segment(seen: Case, whole: Case) -> np.ndarray:
        return _answer(fit(seen, prior, config=chosen), whole)

    return Method(name, segment, {"prior": prior.fingerprint, "fit": asdict(chosen)})


def _answer(subject: Subject, whole: Case) -> np.ndarray:
    """Classes on the whole case's grid, even if the seen slices are on another."""
    grid = whole.stacks[0].grid
    own = subject.stacks[0].grid is grid
    return subject.render(None if own else grid).label.astype(np.int16)


def frozen(study: Study) -> Method:
    """The paper's method."""
    return by_prior(FROZEN, study.prior(study.paper))


def second_order(study: Study) -> Method:
    """The same prior with the Levenberg-Marquardt fit."""
    prior = study.prior(study.paper)
    return by_prior(SECOND, prior, replace(prior.config.fit, method="second-order"))


def ours(study: Study) -> Method:
    """The image-conditioned field."""
    return by_prior(OURS, study.prior(study.image))


def unfrozen(study: Study) -> Method:
    """The method of the authors' public code, with its own validated step count."""
    prior = study.latent_prior(study.paper)
    config = replace(prior.config.fit, steps=_unfrozen_steps(study, prior))

    def segment(seen: Case, whole: Case) -> np.ndarray:
        return _answer(fit_unfrozen(seen, prior, config), whole)

    return Method(UNFROZEN, segment, {"prior": prior.fingerprint, "fit": asdict(config)})


def _unfrozen_steps(study: Study, prior: LatentPrior) -> int:
    """The number of steps with the best mean Dice on validation subjects."""
    most = replace(prior.config.fit, steps=study.budget.paper_config().fit.steps)
    counts, names = step_counts(most.steps), prior.anatomy.labels
    cases = study.validation[: study.budget.unfrozen_cases]

    def search() -> int:
        study.say("choosing the step count of fits with free weights on validation subjects")
        points = prior.validation_points(cases)
        table = []
        for own, index in zip(points, scored_points(points, 0), strict=True):
            row: list[float] = []

            def callback(step, field, latent, own=own, index=index, row=row) -> None:
                if step in counts:
                    row.append(float(np.nanmean(point_dice(field, latent, own, index, len(names)))))

            fit_all(own, prior, most, callback=callback)
            table.append(row)
        return max(1, counts[int(np.mean(table, axis=0).argmax())])

    settings = {"prior": prior.fingerprint, "fit": asdict(most)}
    return study.once("unfrozen-steps", cases, settings, search)


def by_unet(study: Study) -> list[Method]:
    """The U-Net, with two ways of interpolating its segmentations to hidden slices; empty without MONAI.

    Raises:
        BadSettingError: it was trained on test subjects.
    """
    prior, budget = study.prior(study.image), study.budget

    def cases() -> list[Case]:
        # Nothing is chosen for the U-Net on validation subjects, and a prior trained elsewhere has used them.
        return [*study.training, *(study.validation if "image" in study.reuse else ())]

    folder = study.folder("unet")
    if "unet" in study.reuse:
        study.check_unseen(folder)
    try:
        network = trained_unet(cases, prior, budget.unet_steps, folder, study.say, study.device)
    except NisfError as error:
        study.say(f"left out: {error}")
        return []

    def way(how: How) -> Segment:
        def segment(seen: Case, whole: Case) -> np.ndarray:
            region, _ = prior.search.find(seen)
            slices = segment_slices(network, seen, region, prior)
            given = seen.stacks[0].grid
            target = whole if given is whole.stacks[0].grid else seen
            return on_grid(
                interpolated(slices, target, prior.config.field.classes, how), given, whole.stacks[0].grid
            )

        return segment

    weights = float(sum(p.double().abs().sum() for p in network.parameters()))
    settings = {"prior": prior.fingerprint, "weights": weights}
    return [Method(UNET_SHAPE, way("shape"), settings), Method(UNET_NEAREST, way("nearest"), settings)]


def by_reference() -> Method:
    """Shape interpolation of the seen slices' reference labels, without any segmentation.

    It shows how well hidden slices follow from perfectly segmented neighbours.
    """

    def segment(seen: Case, whole: Case) -> np.ndarray:
        labels = {
            (item.position, item.frame): np.maximum(item.label, 0).astype(np.int16)
            for item in seen.labelled()
            if item.stack == 0 and item.label is not None
        }
        if not labels:
            raise CannotFitError(f"{seen.name}: no slice that is seen has labels")
        frames = {frame for _, frame in labels}
        target = whole.keep(lambda item: item.frame in frames)
        return interpolated(labels, target, 1 + max(int(label.max()) for label in labels.values()), "shape")

    return Method(REFERENCE_SHAPE, segment, {})


def score_method(
    study: Study, method: Method, protocol: str = "none", *, factor: float = 1.0
) -> list[dict[str, Any]]:
    """Score the test subjects; returns rows, with the time of each. Cases that fail are left out.

    Args:
        study: provides the subjects.
        method: segments the seen part.
        protocol: what is hidden; see `nisf.data.hiding`.
        factor: pixel size of the seen part, relative to the file's.
    """
    rows: list[dict[str, Any]] = []
    way = protocol if factor == 1.0 else f"pixels-{factor:g}x"
    for case in study.test:

        def work(case: Case = case) -> list[dict[str, Any]] | str:
            try:
                seen, hidden = hide(case, protocol)
                if factor != 1.0:
                    seen = resampled(seen, factor)
                began = time.perf_counter()
                label = method.segment(seen, case)
                seconds = time.perf_counter() - began
            except NisfError as error:
                return str(error)
            scores = score_case(label, hidden, outlines=protocol != "none")
            study.say(f"{method.name}, {way}, {case.name}: Dice {_mean(scores):.3f}")
            return [{**asdict(score), "seconds": round(seconds, 3)} for score in scores]

        what = f"scores/{path_name(method.name)}/{way}/{case.name}"
        found = study.once(what, [case], method.settings, work)
        if isinstance(found, str):
            study.say(f"left out: {found}")
            continue
        rows += [{"method": method.name, "protocol": protocol, **row} for row in found]
    return rows


def _mean(scores: list[Score]) -> float:
    return float(np.mean([score.dice for score in scores])) if scores else float("nan")


def of_subjects(rows: list[dict[str, Any]], label: str | None = None, value: str = "dice") -> np.ndarray:
    """Each subject's mean over phases (and over structures if ``label`` is None)."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if label in (None, row["label"]):
            groups.setdefault(row["case"], []).append(row[value])
    return np.array([np.mean(values) for values in groups.values()])


def mean_of(rows: list[dict[str, Any]], value: str = "dice") -> float:
    """Mean over subjects of `of_subjects`; NaN without rows, e.g. if a method failed on all subjects."""
    return float(of_subjects(rows, value=value).mean()) if rows else float("nan")
