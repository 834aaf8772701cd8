"""``nisf report``: pages to read, print and send."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from nisf.cli.parse import refuse_missing, refuse_missing_prior, refuse_other_than_folder


@dataclass(frozen=True)
class Report:
    """Write a page for each case of a folder that nisf segment wrote, and one for all: OUT/report/index.html.

    Each page is a self-contained file that prints on A4: all slices with contours, cine, long-axis views,
    measures and the processing steps. Cases are numbered, so the folder can be shared; OUT/report-key.csv
    maps the numbers to case names.
    """

    folder: Annotated[Positional[Path], arg(metavar="OUT")]
    """Folder that nisf segment wrote to."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Folder for the pages, instead of OUT/report."""
    prior: Path | None = None
    """Folder of the prior, if it has moved."""
    identifiers: bool = False
    """Use the names of the cases, which may identify patients, instead of numbers."""
    only: Path | None = None
    """Text file with the names of the cases to include, one per line."""
    references: Path | None = None
    """CSV of reference values, with the column case and columns named as in measures.csv: the page of all
    cases shows how they agree (Bland and Altman)."""
    overwrite: bool = False
    """Rewrite pages even if nothing has changed, and replace existing files even if nisf did not write
    them."""
    memory_mb: float = 512
    """Working memory for queries in MiB."""

    def run(self) -> int:
        refuse_other_than_folder(self.folder)
        refuse_missing([self.only, self.references])
        if self.prior is not None:
            refuse_missing_prior(self.prior)

        from nisf.io.readers import names_in
        from nisf.report.cohort_page import read_references
        from nisf.report.folder import ReportOptions, subjects_in, write_reports

        names = subjects_in(self.folder)
        options = ReportOptions(
            identifiers=self.identifiers,
            only=None if self.only is None else frozenset(names_in(self.only, names)),
            references=None if self.references is None else read_references(self.references),
            overwrite=self.overwrite,
            memory_mb=self.memory_mb,
        )
        failed = write_reports(self.folder, self.prior, options, to=self.output)
        for name, sentence in failed.items():
            print(f"{name}: failed: {sentence}", file=sys.stderr)
        return 1 if failed else 0
