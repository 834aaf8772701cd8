"""Score segmentations against references: one case in memory, or a folder of files against a cohort."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Int16, Integer

from nisf.data.case import BACKGROUND, UNKNOWN, Case
from nisf.data.geometry import cycle_distance
from nisf.data.wording import counted, first_few, listed
from nisf.errors import BadFileError, CannotFitError, NisfError
from nisf.evaluation.metrics import Score, score_volume
from nisf.evaluation.prediction import read_prediction
from nisf.files import parse_json, write_csv

if TYPE_CHECKING:
    from rich.table import Table

    from nisf.io.readers import CaseReader

T = TypeVar("T")
LabelSeries = Integer[np.ndarray, "x y z t"]
LABELS_FILE = "labels.json"
"""File beside the predictions with the label names by number."""


@dataclass
class Evaluation:
    """Scores of a set of cases.

    Attributes:
        scores: scores of all cases that could be scored.
        failures: reason for each case that could not be scored, by case name.
        notes: remarks of the reader about the references, and predictions that belong to none.
    """

    scores: list[Score] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def label_volume(case: Case, stack: int = 0) -> Int16[np.ndarray, "x y z t"]:
    """The labels of one stack as an array on its grid, `UNKNOWN` where there is no slice or no label.

    Raises:
        ValueError: the labels of a slice do not fit the grid.
    """
    grid = case.stacks[stack].grid
    volume = np.full((*grid.shape, len(grid.times)), UNKNOWN, dtype=np.int16)
    for s in case.slices:
        if s.stack == stack and s.label is not None:
            volume[:, :, s.position, s.frame] = s.label
    return volume


def phase_name(case: Case, time: float) -> str:
    """The name of the case's phase at ``time`` (fraction of the cycle), else e.g. ``t=0.37``."""
    for name, phase_time in case.phases.items():
        if cycle_distance(np.array([time]), phase_time).item() < 1e-3:
            return name
    return f"t={time:.2f}"


def score_case(
    rendering: LabelSeries,
    case: Case,
    *,
    stack: int = 0,
    positions: Collection[int] | None = None,
    missing_mm: float | None = None,
    outlines: bool = False,
) -> list[Score]:
    """Score a rendering on the grid of one of the case's stacks, in all labelled frames.

    Only the classes in ``case.known`` are scored, and only where the case has labels: given the hidden
    part of a case (`nisf.data.hiding.hide`), only hidden slices count.

    Args:
        rendering: class indices (x, y, z, t) on the stack's grid and times; numbers as in ``case.labels``.
        case: the reference.
        stack: index of the case's stack.
        positions: slices to score; None for all.
        missing_mm: distance assigned to a structure that only one side has; None for the volume's diagonal.
        outlines: whether distances are measured between 2D outlines; use it for part of a volume.

    Returns:
        One score per labelled frame and class.

    Raises:
        ValueError: the rendering does not match the stack's grid.
    """
    grid = case.stacks[stack].grid
    shape = (*grid.shape, len(grid.times))
    if rendering.shape != shape:
        raise ValueError(f"{case.name}: a rendering of shape {rendering.shape} for a stack of shape {shape}")
    reference = label_volume(case, stack)
    scores: list[Score] = []
    for frame, time in enumerate(grid.times):
        scores += score_volume(
            rendering[..., frame],
            reference[..., frame],
            grid.spacing,
            case.labels,
            scored=case.known,
            positions=positions,
            missing_mm=missing_mm,
            outlines=outlines,
            case=case.name,
            phase=phase_name(case, float(time)),
            frame=frame,
        )
    return scores


def evaluate_folder(
    predictions: Path,
    references: Path,
    anatomy: str | Path = "cardiac-sax",
    layout: str = "auto",
    *,
    only: Path | None = None,
) -> Evaluation:
    """Compare ``NAME_seg.nii.gz`` files, or other formats, with the labels of a cohort's first stacks.

    Args:
        predictions: folder with the segmentations and their `LABELS_FILE`.
        references: folder of the cohort.
        anatomy: name or JSON file of the anatomy.
        layout: folder layout of the cohort.
        only: text file with the names of the cases to score, one per line; None for all.

    Returns:
        The scores. A case that cannot be scored is listed in the failures; the others are still scored.

    Raises:
        NisfError: the predictions' label list or the cohort cannot be read.
    """
    from nisf.data.anatomy import load_anatomy
    from nisf.io.readers import CaseReader, only_named, open_cohort
    from nisf.io.readers.listing import existing

    predictions, structures = Path(predictions), load_anatomy(anatomy)
    names = read_label_names(predictions, structures.labels)
    cohort = open_cohort(references, structures, layout=layout)

    def score(case: Case) -> list[Score]:
        found = existing(predictions, f"{case.name}_seg") or predictions / f"{case.name}_seg.nii.gz"
        return score_file(found, names, case, cohort.notes)

    evaluation = evaluate_cases(CaseReader(cohort, structures, only_named(cohort.cases, only)), score)
    if absent := [label for label in structures.labels[1:] if label not in names.values()]:
        evaluation.notes += (
            f"{predictions / LABELS_FILE} does not name {listed(absent)}: where the references have such a "
            "structure, it counts as missed",
        )
    if strays := _strays(predictions, [case.name for case in cohort.cases]):
        evaluation.notes += (
            f"{counted(len(strays), 'prediction')} of no case in {references}: {first_few(strays)}",
        )
    return evaluation


def _strays(predictions: Path, cases: Sequence[str]) -> list[str]:
    """Names of segmentations that belong to no case; those of a case's further stacks do."""
    names = sorted({path.name.split("_seg.")[0] for path in predictions.glob("*_seg.*")})
    known = set(cases)
    starts = {name: [name[:i] for i, letter in enumerate(name) if letter == "_"] for name in names}
    return [name for name in names if not known.intersection([name, *starts[name]])]


def evaluate_cases(reader: CaseReader, score: Callable[[Case], list[Score]]) -> Evaluation:
    """Score the cases of a cohort one by one, and add the remarks on the cohort."""

    def score_read(case: Case | str) -> list[Score]:
        if isinstance(case, str):
            raise NisfError(case)
        return score(case)

    evaluation = evaluate_each(reader, score_read)
    said = []
    for problem in reader.cohort.problems:
        if problem.severity == "error" and problem.case:
            evaluation.failures.setdefault(problem.case, f"{problem.case}: {problem.message}")
        elif problem.severity == "error":
            said.append(problem.message)
    evaluation.notes = (*said, *reader.notes)
    return evaluation


def evaluate_each(items: Iterable[tuple[str, T]], score: Callable[[T], list[Score]]) -> Evaluation:
    """Score named items one by one; a `NisfError` affects its own item only."""
    evaluation = Evaluation()
    for name, item in items:
        try:
            scores = score(item)
            if not scores:
                raise CannotFitError(f"{name}: no reference labels of known structures to score")
            evaluation.scores += scores
        except NisfError as error:
            evaluation.failures[name] = str(error)
    return evaluation


def read_label_names(folder: Path, labels: Sequence[str]) -> dict[int, str]:
    """Class names by number, from a folder's `LABELS_FILE`.

    Names that the anatomy lacks count as background if all of the anatomy's names are present. If some are
    missing too, the names are probably just spelt differently.

    Raises:
        BadFileError: no such file or list, or its names do not fit ``labels``.
    """
    path = folder / LABELS_FILE
    try:
        names = {int(number): str(name) for number, name in parse_json(path.read_text("utf-8-sig")).items()}
    except OSError as error:
        example = f'write it beside the predictions, e.g. {{"1": "{labels[-1]}"}}'
        raise BadFileError(f"{path}: cannot be read ({error.strerror}); {example}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadFileError(f'{path}: not a list of numbers and names like {{"1": "{labels[-1]}"}}') from error
    foreign = sorted(set(names.values()) - set(labels))
    absent = sorted(set(labels) - {BACKGROUND} - set(names.values()))
    if foreign and absent:
        raise BadFileError(f"{path}: names {foreign}, which the anatomy does not have, and lacks {absent}")
    return names


def score_file(
    path: Path, names: Mapping[int, str], case: Case, notes: dict[str, str] | None = None
) -> list[Score]:
    """Score one segmentation file on the grid of the case's first stack.

    Args:
        path: image file, (x, y, z) or (x, y, z, t).
        names: class names by the file's label numbers.
        case: the reference.
        notes: remarks are added here, one per kind; share it among the cases of a cohort.

    Raises:
        BadFileError: the file is missing or unreadable, is on another grid, or has a number without a name.
    """
    numbers = read_prediction(path, case, {} if notes is None else notes)
    indices = np.zeros(numbers.shape, dtype=np.int16)
    for number in np.unique(numbers):
        if number != 0 and number not in names:
            raise BadFileError(f"{case.name}: {path} has label {number}, {LABELS_FILE} names {list(names)}")
        name = names.get(int(number), BACKGROUND)
        indices[numbers == number] = case.labels.index(name) if name in case.labels else 0
    return score_case(indices, case)


def write_scores_csv(path: Path, scores: Sequence[Score]) -> None:
    """Write one row per score, atomically.

    Raises:
        BadFileError: the file cannot be written.
    """
    try:
        rows = (list(asdict(score).values()) for score in scores)
        write_csv(path, [column.name for column in fields(Score)], rows)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be written ({error.strerror})") from error


def summary_table(scores: Sequence[Score], title: str | None = None) -> Table:
    """Mean ± standard deviation per class and phase, and over all scores in the last row.

    Δ mL is the predicted minus the reference volume. Missed and spurious ("extra") structures are counted;
    they enter the means with Dice 0 and the distance from `score_volume`.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("Label", no_wrap=True)
    table.add_column("Phase")
    for heading in ("n", "Dice", "HD95 mm", "ASSD mm", "Δ mL", "Missed", "Extra"):
        table.add_column(heading, justify="right")
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.label, score.phase), []).append(score)
    order = list(dict.fromkeys(score.label for score in scores))
    for label, phase in sorted(groups, key=lambda key: (order.index(key[0]), key[1])):
        table.add_row(label, phase, *_summary(groups[label, phase]))
    if scores:
        table.add_section()
        table.add_row("mean", "all", *_summary(scores))
    return table


def _summary(scores: Sequence[Score]) -> list[str]:
    def spread(values: list[float], form: str) -> str:
        # The sample standard deviation; a single value has none.
        deviation = f" ±{np.std(values, ddof=1):.{form[-2:]}}" if len(values) > 1 else ""
        return f"{np.mean(values):{form}}{deviation}"

    return [
        str(len(scores)),
        spread([s.dice for s in scores], ".3f"),
        spread([s.hd95_mm for s in scores], ".1f"),
        spread([s.assd_mm for s in scores], ".2f"),
        spread([s.difference_ml for s in scores], "+.1f"),
        str(sum(s.missed for s in scores)),
        str(sum(s.spurious for s in scores)),
    ]
