"""``nisf evaluate``: score segmentations, or a prior, against references."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from nisf.cli.console import table_console
from nisf.cli.parse import refuse_missing, refuse_missing_prior

if TYPE_CHECKING:
    from rich.table import Table

    from nisf.evaluation.agreement import Comparison
    from nisf.evaluation.scores import Evaluation

SCORES = (
    "Mean ± standard deviation over n volumes. Δ mL: predicted minus reference volume.\n"
    "Missed: structures in the reference only; Extra: in the prediction only."
)
AGREEMENT = (
    "Bias: mean of measured minus reference value, with its 95 % limits of agreement (Bland and Altman),\n"
    "which need at least two cases.\n"
    "Readers: deviation of readers from their consensus, as published."
)
"""What the columns of the tables mean."""

DEFAULT = "cardiac-sax"
"""The anatomy of references that are compared with files."""


@dataclass(frozen=True)
class Evaluate:
    """Compare segmentations with reference labels: Dice, HD95 and ASSD in mm, volumes in mL.

    Scores the files in --predictions, or fits each case with --prior. With --prior, --hide withholds slices
    or frames from the fit and scores only those. A missed structure has a Dice of 0 and the diagonal of the
    volume as its distance. The exit status is 1 if a case could not be scored.
    """

    references: Annotated[Positional[Path], arg(metavar="REFERENCES")]
    """Folder of the cohort with the reference labels."""
    predictions: Annotated[Path | None, arg(aliases=["-p"])] = None
    """Folder with NAME_seg.nii.gz files and labels.json, which maps label numbers to names."""
    prior: Path | None = None
    """Prior to fit each case with, instead of --predictions: a folder or the name of a bundled model."""
    hide: str = "none"
    """What to withhold from the fit: every-2nd-slice, basal, apical, all-but-3, every-2nd-frame, or none."""
    measures: bool = False
    """Compare the measures in --predictions (measures.csv) with those of the labels (Bland-Altman)."""
    plots: Path | None = None
    """With --measures: file for the Bland-Altman plots, .png, .pdf or .svg."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """CSV file to write: one row per case, frame and structure; with --measures one row per case and
    measure."""
    only: Path | None = None
    """Text file with the names of the cases to score, one per line."""
    steps: int | None = None
    """With --prior: number of fitting steps; by default the number that worked best on the prior's validation
    cases. For the second-order method: the maximum number of iterations."""
    anatomy: str | None = None
    """Anatomy of the references: a name or a JSON file; by default cardiac-sax. With --prior only its label
    numbers are used, and by default that of the prior."""
    layout: str = "auto"
    """Folder layout of the references; auto detects it."""
    device: str = "cpu"
    """Device to run networks on: cpu, cuda or cuda:NUMBER."""
    threads: int | None = None
    """CPU threads; by default the number of idle cores."""
    overwrite: bool = False
    """Replace the CSV file and the plots even if nisf did not write them."""

    def run(self) -> int:
        refuse_missing([self.references, self.predictions, self.only])
        if self.prior is not None:
            refuse_missing_prior(self.prior)

        from nisf.data.hiding import check_protocol
        from nisf.errors import BadSettingError
        from nisf.evaluation.scores import evaluate_folder

        if self.measures or self.plots is not None:
            return self.compare_measures()
        check_protocol(self.hide)
        if self.steps is not None and self.steps < 1:
            raise BadSettingError(f"--steps {self.steps}: give a number of at least 1")
        if (self.predictions is None) == (self.prior is None):
            raise BadSettingError("give either --predictions FOLDER or --prior FOLDER")
        if self.predictions is None:
            assert self.prior is not None
            prior = self.prior
            return self.reported(lambda: self.with_prior(prior))
        if self.hide != "none":
            raise BadSettingError(f"--hide {self.hide}: needs --prior, to fit what is not hidden")
        if unused := self.options_of_fits():
            raise BadSettingError(f"{unused[0]}: needs --prior; predictions are scored as they are")
        predictions, anatomy = self.predictions, self.anatomy or DEFAULT
        return self.reported(
            lambda: evaluate_folder(predictions, self.references, anatomy, self.layout, only=self.only)
        )

    def options_of_fits(self) -> list[str]:
        """The given options that apply to fits only, with their values."""
        given = {"steps": self.steps, "threads": self.threads}
        found = [f"--{name} {value}" for name, value in given.items() if value is not None]
        return found + ([f"--device {self.device}"] if self.device != "cpu" else [])

    def reported(self, evaluate: Callable[[], Evaluation]) -> int:
        """Evaluate, print and write the results; returns the exit status.

        Raises:
            BadFileError: a file is in the way, which is checked before the evaluation.
        """
        if self.output is None:
            return report(evaluate(), None)
        with self.kept(self.output):
            return report(evaluate(), self.output)

    @contextmanager
    def kept(self, path: Path, part: str = "evaluate") -> Generator[None]:
        """Record a file that is written inside this context, and say which files of others it replaced.

        Raises:
            BadFileError: a file that nisf did not write is in the way.
        """
        from nisf.outputs import recorded

        name = path.name.removesuffix(path.suffix)
        with recorded(path.parent, name, part, planned=[path.name], overwrite=self.overwrite) as writing:
            yield
        for remark in writing.remarks():
            print(remark)

    def compare_measures(self) -> int:
        """Compare measures instead of voxels; returns the exit status.

        Raises:
            NisfError: an option does not go with it, the cohort cannot be read, or a file is in the way.
        """
        from nisf.errors import BadSettingError
        from nisf.evaluation.agreement import compare_folder, write_agreement_csv
        from nisf.outputs.recording import refuse_to_replace
        from nisf.picture import agreement_picture

        if self.predictions is None or not self.measures:
            raise BadSettingError(
                "--measures needs --predictions FOLDER with measures; --plots needs --measures"
            )
        if self.hide != "none" or self.prior is not None or self.options_of_fits():
            raise BadSettingError(
                "--measures compares what is in --predictions; "
                "leave --hide, --steps, --threads, --device, --prior out"
            )
        endings = (".png", ".pdf", ".svg")
        if self.plots is not None and self.plots.suffix.lower() not in endings:
            raise BadSettingError(f"--plots {self.plots}: name it {', '.join(endings)}")
        for path, part in ((self.output, "evaluate"), (self.plots, "plots")):
            if path is not None and not self.overwrite:
                refuse_to_replace(path.parent, path.stem, part, planned=[path.name])
        comparison = compare_folder(
            self.predictions, self.references, self.anatomy or DEFAULT, self.layout, only=self.only
        )
        if self.output is not None:
            with self.kept(self.output):
                write_agreement_csv(self.output, comparison.agreements)
        if self.plots is not None and comparison.agreements:
            with self.kept(self.plots, "plots"):
                agreement_picture(comparison.agreements, self.plots)
        return report_agreement(comparison)

    def with_prior(self, folder: Path) -> Evaluation:
        """Fit each case without what is hidden, and score that."""
        from nisf.config.fit_options import FitOptions
        from nisf.device import named_device, use_threads
        from nisf.evaluation.cohort import evaluate_prior
        from nisf.kinds.load import load_prior

        use_threads(self.threads)
        prior = load_prior(folder).to(named_device(self.device))
        return evaluate_prior(
            self.references,
            prior,
            self.hide,
            options=FitOptions(steps=self.steps),
            anatomy=self.anatomy,
            layout=self.layout,
            only=self.only,
            say=lambda sentence: print(sentence, file=sys.stderr, flush=True),
        )


def report_agreement(comparison: Comparison) -> int:
    """Print the table, the notes and the failures; the exit status."""
    from nisf.evaluation.agreement import agreement_table

    if comparison.agreements:
        show(agreement_table(comparison.agreements), AGREEMENT)
    tell(comparison.notes, comparison.failures)
    return 1 if comparison.failures else 0


def show(table: Table, caption: str) -> None:
    """Print a table, and below it what its columns mean."""
    console = table_console()
    console.print(table)
    console.print(caption, style="dim", highlight=False)


def tell(notes: Iterable[str], failures: Mapping[str, str]) -> None:
    """Print notes and failures on standard error."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for sentence in failures.values():
        print(sentence, file=sys.stderr)


def report(evaluation: Evaluation, output: Path | None) -> int:
    """Write the CSV, print the table and the failures; the exit status.

    Raises:
        BadFileError: the CSV cannot be written.
    """
    from nisf.data.wording import counted
    from nisf.evaluation.scores import summary_table, write_scores_csv

    failures = evaluation.failures
    if output is not None:
        write_scores_csv(output, evaluation.scores)
    if evaluation.scores:
        show(summary_table(evaluation.scores), SCORES)
    tell(evaluation.notes, failures)
    if failures:
        print(f"{counted(len(failures), 'case')} could not be scored: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0
