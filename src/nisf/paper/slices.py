"""Dice on hidden slices against the number of slices given, spread evenly over the labelled range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nisf.paper.methods import (
    OURS,
    UNET_NEAREST,
    UNET_SHAPE,
    Method,
    by_reference,
    by_unet,
    mean_of,
    ours,
    score_method,
)
from nisf.paper.needs import Needs, of_image, of_network, scored
from nisf.paper.results import Result, draw, look, publish
from nisf.paper.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GIVEN = (2, 3, 4, 5, 6)


def protocol(given: int) -> str:
    """The protocol that hides all but this many slices."""
    return f"all-but-{given}"


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    methods = (OURS, UNET_SHAPE, UNET_NEAREST)
    parts = [part for given in GIVEN for part in scored(study, protocol(given), methods)]
    return Needs((of_image(study), of_network(study)), tuple(parts))


def run(study: Study) -> Result:
    """The image-conditioned field, the U-Net with interpolation, and interpolated reference labels.

    Stacks with too few slices for a number are left out there; the CSV lists the scored subjects.
    """
    methods: list[Method] = [ours(study), *by_unet(study), by_reference()]
    rows = [
        {"given": given, **row}
        for given in GIVEN
        for method in methods
        for row in score_method(study, method, protocol(given))
    ]
    found = {
        method.name: [
            mean_of([row for row in rows if row["given"] == g and row["method"] == method.name])
            for g in GIVEN
        ]
        for method in methods
    }
    table = [["slices given", *found, "subjects"]]
    for i, given in enumerate(GIVEN):
        count = len({row["case"] for row in rows if row["given"] == given})
        table.append([str(given), *(f"{dice[i]:.3f}" for dice in found.values()), str(count)])
    few, many = GIVEN[1], GIVEN[-1]
    line = f"Mean Dice on hidden slices with {few} and {many} slices given: " + ", ".join(
        f"{name} {dice[GIVEN.index(few)]:.3f} and {dice[-1]:.3f}" for name, dice in found.items()
    )
    result = Result("slices", "Dice against the number of slices given", line + ".", rows, table)

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        for name, dice in found.items():
            axes.plot(GIVEN, dice, label=name, **look(name))
        axes.set_xticks(GIVEN)
        axes.set(xlabel="slices given", ylabel="mean Dice on hidden slices")
        axes.grid(color="0.9")
        figure.legend(loc="outside right upper")

    publish(study.output, result, draw(6.0, 3.2, make))
    return result
