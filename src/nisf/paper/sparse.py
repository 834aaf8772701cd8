"""Training on part of the data: every k-th pixel, slice or frame, or labels on some slices only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nisf.data.case import Case
from nisf.data.geometry import Affine
from nisf.paper.methods import of_subjects
from nisf.paper.needs import Needs, of_variants
from nisf.paper.results import Result, draw, look, publish
from nisf.paper.study import Study, Variant
from nisf.paper.variants import base, score_variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fewer_pixels(case: Case, every: int) -> Case:
    """Every k-th pixel along both axes of each slice, without averaging."""
    coarser = Affine(np.diag([every, every, 1.0, 1.0]))
    slices = tuple(
        replace(
            item,
            image=item.image[::every, ::every],
            label=None if item.label is None else item.label[::every, ::every],
            affine=item.affine @ coarser,
        )
        for item in case.slices
    )
    return replace(case, slices=slices)


def fewer_slices(case: Case, every: int) -> Case:
    """Every k-th slice."""
    return case.keep(lambda item: item.position % every == every // 2)


def fewer_frames(case: Case, every: int) -> Case:
    """Every k-th labelled frame."""
    frames = sorted({item.frame for item in case.labelled()})[::every]
    return case.keep(lambda item: item.frame in frames) if frames else case


def fewer_labels(case: Case, every: int) -> Case:
    """All intensities, but labels on every k-th slice only."""
    slices = tuple(
        item if item.position % every == every // 2 else replace(item, label=None) for item in case.slices
    )
    return replace(case, slices=slices)


KINDS: dict[str, tuple[Callable[[Case, int], Case], tuple[int, ...]]] = {
    "pixels": (fewer_pixels, (2, 4)),
    "slices": (fewer_slices, (2, 3)),
    "frames": (fewer_frames, (2,)),
    "labels": (fewer_labels, (2, 4)),
}
"""Functions that thin out the data, and the values of k."""


def variants(study: Study) -> dict[tuple[str, int], Variant]:
    """The variant for each kind of thinning and k."""
    config = study.budget.variant_config()

    def variant(kind: str, every: int) -> Variant:
        return Variant(f"{kind}-{every}", config, lambda case: KINDS[kind][0](case, every))

    return {(kind, k): variant(kind, k) for kind, (_, everies) in KINDS.items() for k in everies}


def labelled_voxels(case: Case) -> int:
    """Number of voxels with a known label."""
    return sum(int((item.label >= 0).sum()) for item in case.labelled() if item.label is not None)


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    return of_variants(study, [base(study), *variants(study).values()])


def run(study: Study) -> Result:
    """Dice against the fraction of labelled voxels kept for training."""
    whole = sum(map(labelled_voxels, study.training))
    fractions: dict[tuple[str, int], float] = {}
    scores: dict[tuple[str, int], np.ndarray] = {}
    rows, table = [], [["kept", "fraction of labelled voxels", "mean Dice"]]
    for (kind, every), variant in {("all", 1): base(study), **variants(study)}.items():
        found = score_variant(study, variant)
        thin = variant.thin or (lambda case: case)
        share = sum(labelled_voxels(thin(case)) for case in study.training) / whole
        rows += [{"kept": kind, "every": every, "share": round(share, 4), **row} for row in found]
        fractions[kind, every], scores[kind, every] = share, of_subjects(found)
        what = "everything" if every == 1 else f"every {every}{_ending(every)} of the {kind}"
        table.append([what, f"{share:.2f}", f"{scores[kind, every].mean():.3f}"])
    full = scores["all", 1].mean()
    line = f"Mean Dice {full:.3f} with everything; " + ", ".join(
        f"{scores[key].mean():.3f} with every {key[1]}{_ending(key[1])} of the {key[0]}"
        for key in scores
        if key[1] > 1
    )
    result = Result("sparse", "Training on sparse data", line + ".", rows, table)

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        for kind, (_, everies) in KINDS.items():
            keys = [("all", 1), *((kind, every) for every in everies)]
            axes.plot(
                [fractions[key] for key in keys],
                [scores[key].mean() for key in keys],
                label=f"fewer {kind}",
                **look(kind, list(KINDS)),
            )
        axes.set(xlabel="fraction of labelled voxels kept", ylabel="mean Dice", xscale="log")
        axes.grid(color="0.9")
        figure.legend(loc="outside right upper")

    publish(study.output, result, draw(6.0, 3.2, make))
    return result


def _ending(number: int) -> str:
    return {2: "nd", 3: "rd"}.get(number, "th")
