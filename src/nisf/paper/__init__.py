"""The paper's experiments and further ones, on any cohort; see `nisf paper`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nisf.paper.needs import Needs
    from nisf.paper.results import Result
    from nisf.paper.study import Study


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: as the command takes it; also the name of its module.
        title: what it shows.
    """

    name: str
    title: str

    @property
    def needs(self) -> Callable[[Study], Needs]:
        """The module's ``needs``: everything that has to be trained and computed for it."""
        return import_module(f"nisf.paper.{self.name}").needs

    @property
    def run(self) -> Callable[[Study], Result | None]:
        """The module's ``run``, imported on demand."""
        return import_module(f"nisf.paper.{self.name}").run


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("table1", "Dice of each structure over test subjects"),
        Experiment("fig2", "Dice and loss against inference steps"),
        Experiment("fig3", "priors at several stages of their training"),
        Experiment("fig4", "slices that were held out"),
        Experiment("slices", "Dice against the number of slices given"),
        Experiment("planes", "long-axis views from short-axis slices"),
        Experiment("resolution", "other spacings than in training"),
        Experiment("sparse", "training on part of the data"),
        Experiment("ablations", "activation, alpha, latent, networks"),
    )
}
PAGES = [name for experiment in EXPERIMENTS for name in (experiment, f"{experiment}-slices")]
"""Names of results, in the order of the summary page."""
