"""How measures agree with those of reference labels: bias and limits of agreement.

The references are measured as they are read by hand, by summation of their slices; ours by both conventions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from nisf.data.anatomy import Anatomy, load_anatomy
from nisf.data.case import Case
from nisf.data.measure_rules import MeasureRule
from nisf.errors import BadFileError, CannotFitError, NisfError
from nisf.evaluation.scores import label_volume
from nisf.files import write_csv
from nisf.io.readers import CaseReader, only_named, open_cohort
from nisf.measures.curve import VolumeCurve
from nisf.measures.formulas import BY_HAND, CONVENTIONS, Convention, column, values_of
from nisf.measures.table import case_path, read_case

if TYPE_CHECKING:
    from rich.table import Table

LIMIT = 1.96
"""Standard deviations from the bias to the limits of agreement."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """One measure of a set of cases, ours and the references'.

    Attributes:
        name: of the measure's column, e.g. ``lv_edv_ml``.
        convention: of ours.
        cases: names (n,).
        ours: measured (n,).
        reference: from the reference labels (n,).
        readers: how far readers are from their consensus, if the anatomy says.
    """

    name: str
    convention: Convention
    cases: tuple[str, ...]
    ours: Float[np.ndarray, "n"]
    reference: Float[np.ndarray, "n"]
    readers: float | None = None

    @property
    def difference(self) -> Float[np.ndarray, "n"]:
        """Ours minus the reference."""
        return self.ours - self.reference

    @property
    def bias(self) -> float:
        """Mean difference."""
        return float(self.difference.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation of the differences; 0 of a single one."""
        return float(self.difference.std(ddof=1)) if len(self.difference) > 1 else 0.0

    @property
    def limits(self) -> tuple[float, float]:
        """Limits of agreement.

        Source: Bland and Altman, Lancet 327(8476), 1986.
        """
        return self.bias - LIMIT * self.deviation, self.bias + LIMIT * self.deviation

    @property
    def absolute(self) -> float:
        """Mean absolute difference."""
        return float(np.abs(self.difference).mean())


@dataclass
class Comparison:
    """What came of comparing the measures of a set of cases.

    Attributes:
        agreements: by measure and convention.
        failures: case name to a sentence that says why it could not be compared.
        notes: what the reader has to say about the references.
    """

    agreements: list[Agreement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def reference_values(case: Case, anatomy: Anatomy) -> dict[str, float | None]:
    """The measures of a case's reference labels by summation of slices, by the names of the columns.

    A structure that nobody drew in a frame has no volume there.

    Args:
        case: with labels, of its first stack.
        anatomy: declares the measures.

    Raises:
        CannotFitError: no frame has labels.
    """
    grid, labels = case.stacks[0].grid, label_volume(case)
    counts = np.stack(
        [
            np.bincount(labels[..., t][labels[..., t] >= 0], minlength=len(case.labels))
            for t in range(labels.shape[-1])
        ]
    )
    drawn = np.flatnonzero(counts[:, 1:].any(1))
    if not len(drawn):
        raise CannotFitError(f"{case.name}: no reference labels to measure")
    order = drawn[np.argsort(grid.times[drawn], kind="stable")]
    ml = np.where(counts[order] > 0, counts[order] * grid.voxel_ml, np.nan)
    known = {
        name: ml[:, k] if name in case.known else np.full(len(order), np.nan)
        for k, name in enumerate(case.labels)
        if k
    }
    curve = VolumeCurve(grid.times[order], known, known, case.stacks[0].cycle_ms)
    # Only what was drawn: a phase without labels is not that of the nearest frame that has some.
    there = {name: time for name, time in case.phases.items() if np.isclose(curve.times, time).any()}
    values = values_of(anatomy, curve, there)
    return {
        column(rule, anatomy.measures): values[column(rule, anatomy.measures, "slices")]
        for rule in _compared(anatomy)
    }


def _compared(anatomy: Anatomy) -> list[MeasureRule]:
    """The measures that labels have too and that need nothing else."""
    return [rule for rule in anatomy.measures if rule.rule in BY_HAND and rule.rule != "output"]


def compare(
    anatomy: Anatomy,
    ours: Mapping[str, Mapping[str, float | None]],
    references: Mapping[str, Mapping[str, float | None]],
) -> list[Agreement]:
    """The agreement of each measure by each convention, over the cases in which both sides know it.

    Args:
        anatomy: declares the measures.
        ours: case to measures by the names of their columns, of both conventions.
        references: case to the references' measures, by the names of the first convention.
    """
    out = []
    for rule in _compared(anatomy):
        name = column(rule, anatomy.measures)
        for convention in CONVENTIONS:
            own = column(rule, anatomy.measures, convention)
            pairs = [(case, ours[case].get(own), values.get(name)) for case, values in references.items()]
            known = [
                (case, a, b) for case, a, b in pairs if a is not None and b is not None and np.isfinite(b)
            ]
            if known:
                cases, first, second = zip(*known, strict=True)
                out.append(
                    Agreement(name, convention, cases, np.array(first), np.array(second), rule.readers)
                )
    return out


def compare_folder(
    measured: Path,
    references: Path,
    anatomy: str | Path = "cardiac-sax",
    layout: str = "auto",
    *,
    only: Path | None = None,
) -> Comparison:
    """Compare the measures in a folder with those of a cohort's reference labels.

    Args:
        measured: folder that ``nisf segment`` or ``nisf measure`` has written.
        references: folder of the cohort.
        anatomy: name or JSON file of the anatomy.
        layout: how the cohort lies in its folder.
        only: text file with the names of the cases to compare, one a line; all if None.

    Raises:
        NisfError: the cohort cannot be read.
    """
    structures = load_anatomy(anatomy)
    cohort = open_cohort(references, structures, layout)
    reader = CaseReader(cohort, structures, only_named(cohort.cases, only))
    comparison = Comparison()
    ours: dict[str, Mapping[str, float | None]] = {}
    theirs: dict[str, Mapping[str, float | None]] = {}
    for name, case in reader:
        try:
            if isinstance(case, str):
                raise NisfError(case)
            theirs_now = reference_values(case, structures)
            ours[name] = _measured(measured, name)
            theirs[name] = theirs_now
        except NisfError as error:
            comparison.failures[name] = str(error)
    comparison.agreements, comparison.notes = compare(structures, ours, theirs), tuple(reader.notes)
    return comparison


def _measured(folder: Path, name: str) -> Mapping[str, float | None]:
    """The measures of one case.

    Raises:
        BadFileError: they are not there, or damaged.
    """
    path = case_path(folder, name)
    if not path.is_file():
        raise BadFileError(f"{name}: {path} is missing; run nisf measure {folder} first")
    return read_case(path).values


def write_agreement_csv(path: Path, agreements: Sequence[Agreement]) -> None:
    """Write one row for each case, measure and convention; the file appears whole or not at all."""
    rows = [
        [case, found.name, found.convention, *(f"{number:.5g}" for number in (ours, true, ours - true))]
        for found in agreements
        for case, ours, true in zip(found.cases, found.ours, found.reference, strict=True)
    ]
    write_csv(path, ["case", "measure", "convention", "value", "reference", "difference"], rows)


def agreement_table(agreements: Sequence[Agreement], title: str | None = None) -> Table:
    """Bias, limits of agreement and mean absolute difference of each measure, beside those of readers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("Measure", no_wrap=True)
    table.add_column("Convention")
    for heading in ("n", "Reference", "Bias", "Limits of agreement", "Mean abs", "Readers"):
        table.add_column(heading, justify="right")
    for agreement in agreements:
        low, high = agreement.limits
        table.add_row(
            agreement.name,
            agreement.convention,
            str(len(agreement.cases)),
            f"{agreement.reference.mean():.1f}",
            f"{agreement.bias:+.1f}",
            f"{low:+.1f} to {high:+.1f}",
            f"{agreement.absolute:.1f}",
            "" if agreement.readers is None else f"{agreement.readers:.1f}",
        )
    return table
