"""Estimate the run time of experiments: a few seconds of measurements, then multiplication."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nisf.paper import EXPERIMENTS
from nisf.paper.costs import Costs
from nisf.paper.study import Study


@dataclass(frozen=True)
class Job:
    """A part of the work.

    Attributes:
        group: ``priors``, or the first experiment that needs it.
        what: description.
        seconds: estimate of the time left; 0 if it is done already.
    """

    group: str
    what: str
    seconds: float


def jobs(study: Study, experiments: Collection[str]) -> list[Job]:
    """The work of some experiments; work shared by several is counted once."""
    costs = Costs(study)
    needs = {name: one.needs(study) for name, one in EXPERIMENTS.items() if name in experiments}
    trainings = dict.fromkeys(training for need in needs.values() for training in need.trainings)
    out = [
        Job("priors", training.name, 0.0 if training.there else training.seconds(costs))
        for training in trainings
    ]
    first = {}
    for name, need in needs.items():
        for part in need.parts:
            first.setdefault(part, name)
    for part, name in first.items():
        left = part.left(study)
        out.append(Job(name, part.what, left * part.seconds(costs) if left else 0.0))
    return out
