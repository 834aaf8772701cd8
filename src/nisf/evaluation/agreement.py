"""Agreement of measures with those of reference labels: bias and limits of agreement.

References are measured by summation of their slices, as in manual readings; ours by both conventions.
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
    """One measure of a set of cases, ours and the reference's.

    Attributes:
        name: name of the measure's column, e.g. ``lv_edv_ml``.
        convention: convention of our measure.
        cases: names (n,).
        ours: our values (n,).
        reference: values from the reference labels (n,).
        readers: deviation of readers from their consensus, if the anatomy declares it.
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
    def deviation(self) -> float | None:
        """Standard deviation of the differences; None for a single one."""
        return float(self.difference.std(ddof=1)) if len(self.difference) > 1 else None

    @property
    def limits(self) -> tuple[float, float] | None:
        """Limits of agreement; a single difference has none.

        Source: Bland and Altman, Lancet 327(8476), 1986.
        """
        if self.deviation is None:
            return None
        return self.bias - LIMIT * self.deviation, self.bias + LIMIT * self.deviation

    @property
    def absolute(self) -> float:
        """Mean absolute difference."""
        return float(np.abs(self.difference).mean())


@dataclass
class Comparison:
    """Result of comparing the measures of a set of cases.

    Attributes:
        agreements: by measure and convention.
        failures: for each case that could not be compared, a sentence that says why.
        notes: the reader's remarks about the references.
    """

    agreements: list[Agreement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def reference_values(case: Case, anatomy: Anatomy) -> dict[str, float | None]:
    """The measures of a case's reference labels by summation of slices, by column name.

    A structure that was not drawn in a frame has no volume there.

    Args:
        case: labelled in its first stack.
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
    # Only labelled frames: a phase without labels must not get the volume of the nearest labelled frame.
    there = {name: time for name, time in case.phases.items() if np.isclose(curve.times, time).any()}
    values = values_of(anatomy, curve, there)
    return {
        column(rule, anatomy.measures): values[column(rule, anatomy.measures, "slices")]
        for rule in _compared(anatomy)
    }


def _compared(anatomy: Anatomy) -> list[MeasureRule]:
    """The measures that can be computed from labels alone."""
    return [rule for rule in anatomy.measures if rule.rule in BY_HAND and rule.rule != "output"]


def compare(
    anatomy: Anatomy,
    ours: Mapping[str, Mapping[str, float | None]],
    references: Mapping[str, Mapping[str, float | None]],
) -> list[Agreement]:
    """The agreement of each measure by each convention, over the cases in which both values are known.

    Args:
        anatomy: declares the measures.
        ours: measures of each case by column name, for both conventions.
        references: measures of each case's reference, by column name of the first convention.
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
        measured: folder written by ``nisf segment`` or ``nisf measure``.
        references: folder of the cohort.
        anatomy: name or JSON file of the anatomy.
        layout: layout of the cohort's folder.
        only: text file with the names of the cases to compare, one per line; all if None.

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
        BadFileError: they are missing or damaged.
    """
    path = case_path(folder, name)
    if not path.is_file():
        raise BadFileError(f"{name}: {path} is missing; run nisf measure {folder} first")
    return read_case(path).values


def write_agreement_csv(path: Path, agreements: Sequence[Agreement]) -> None:
    """Write one row per case, measure and convention, atomically."""
    rows = [
        [case, found.name, found.convention, *(f"{number:.5g}" for number in (ours, true, ours - true))]
        for found in agreements
        for case, ours, true in zip(found.cases, found.ours, found.reference, strict=True)
    ]
    write_csv(path, ["case", "measure", "convention", "value", "reference", "difference"], rows)


def agreement_table(agreements: Sequence[Agreement], title: str | None = None) -> Table:
    """Bias, limits of agreement and mean absolute difference of each measure, with those of readers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("Measure", no_wrap=True)
    table.add_column("Convention")
    for heading in ("n", "Reference", "Bias", "Limits of agreement", "Mean abs", "Readers"):
        table.add_column(heading, justify="right")
    for agreement in agreements:
        limits = agreement.limits
        table.add_row(
            agreement.name,
            agreement.convention,
            str(len(agreement.cases)),
            f"{agreement.reference.mean():.1f}",
            f"{agreement.bias:+.1f}",
            "" if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f}",
            f"{agreement.absolute:.1f}",
            "" if agreement.readers is None else f"{agreement.readers:.1f}",
        )
    return table
