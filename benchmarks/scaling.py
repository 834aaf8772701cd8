"""The cost of a subject in a cohort of a thousand, and an estimate for UK Biobank: time, memory and disk.

    python benchmarks/scaling.py FOLDER -o OUT [--cases 1000] [--prior cardiac-sax]

Writes small synthetic subjects (50 different ones, under as many names as needed), segments and measures
them one after the other in one process, and records the cost of each. An interrupted run resumes. Then
``nisf segment --estimate`` extrapolates from one synthetic cine of UK Biobank's size (208 x 187 pixels,
50 frames) to 50,000. OUT gets ``scaling.json`` and ``scaling.png``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import new_parser
from nisf.data.anatomy import load_anatomy
from nisf.engines import Begin, InProcess, Work
from nisf.engines.estimate import Estimate, estimated
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.io.readers import CaseFiles, open_cohort
from nisf.kinds.load import load_prior
from nisf.measures.folder import Tables
from nisf.phantom import Scanner, write_cohort
from nisf.segmentation import Request
from timing import load_average, machine

SMALL = Scanner(matrix=(64, 64), spacing_mm=3.0, frames=1, beyond=0, gap_mm=18.0)
DISTINCT = 50
BIOBANK = Scanner(matrix=(208, 187), spacing_mm=1.83, frames=50)
SUBJECTS = 50_000
SIZES = (1, 3, 10, 30, 100, 300, 1000)
BLOCK = 50
"""Subjects whose mean is one point of the figure."""
REQUEST = Request(find="centre")
"""The finder takes most small phantoms for no heart; where they lie is known."""

Row = dict[str, Any]
say = partial(print, flush=True)


def write_subjects(folder: Path, count: int, distinct: int = DISTINCT) -> None:
    """Write ``count`` synthetic subjects, of which ``distinct`` differ; the others are links to them."""
    patterns = folder.parent / "patterns"
    if not (patterns / f"phantom{distinct - 1:04d}").is_dir():
        write_cohort(patterns, distinct, seed=1, scanner=SMALL)
    sources = sorted(patterns.glob("phantom*/sa.nii.gz"))
    for number in range(count):
        case = folder / f"subject{number:05d}"
        case.mkdir(parents=True, exist_ok=True)
        if not (case / "sa.nii.gz").exists():
            os.link(sources[number % len(sources)], case / "sa.nii.gz")


def resident_mib() -> float:
    """Memory of this process that is not of mapped files, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def known_rows(path: Path) -> list[Row]:
    """The rows of an earlier run, without lines that were cut short."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def segment_all(cases: Sequence[CaseFiles], prior: str, out: Path, log: Path) -> list[Row]:
    """Segment the cases that have no row yet, and append a row of costs for each."""
    rows = known_rows(log)
    noted = {row["case"] for row in rows}
    left = [files for files in cases if files.name not in noted]
    work = Work(out, REQUEST)
    out.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file, Tables(out) as tables:
        for _, result in InProcess(load_prior(prior), replace(work, overwrite=bool(rows))).run(left, _quiet):
            assert result.done, result.error
            tables.note()
            written = sum(path.stat().st_size for path in out.glob(f"{result.case}*"))
            row = {"case": result.case, "cpu": result.cpu_s, "mib": resident_mib(), "bytes": written}
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            if len(rows) in SIZES or len(rows) % 100 == 0:
                say(f"{len(rows)} subjects: {result.cpu_s:.2f} s of a processor, {row['mib']:.0f} MiB")
    return rows


def _quiet(_index: int, _what: str) -> None:
    """Ignore the report of progress."""


def table(rows: Sequence[Row]) -> list[Row]:
    """Costs per subject by size of the cohort: means over all subjects so far, and the memory in use."""
    found = []
    for size in (size for size in SIZES if size <= len(rows)):
        first = rows[:size]
        last = first[-BLOCK:]
        found.append(
            {
                "subjects": size,
                "cpu_s": float(np.mean([row["cpu"] for row in first])),
                "cpu_s_last": float(np.median([row["cpu"] for row in last])),
                "mib": float(np.median([row["mib"] for row in last])),
                "disk_kib": float(np.mean([row["bytes"] for row in first])) / 1024,
            }
        )
    return found


def biobank(folder: Path, prior: str) -> Estimate:
    """Estimated cost of 50,000 subjects of UK Biobank's size, from one synthetic cine."""
    if not (folder / "phantom0000" / "sa.nii.gz").exists():
        write_cohort(folder, 1, seed=1, scanner=BIOBANK)
    loaded = load_prior(prior)
    (files,) = open_cohort(folder, loaded.anatomy, labels=False).cases
    begin = Begin(str(loaded.source), loaded.digest, threads=1)
    return estimated([files] * SUBJECTS, begin, Work(folder / "out", REQUEST))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Plot time, memory and disk space per subject against the number of subjects."""
    import matplotlib as mpl

    from nisf.picture import STYLE, new_figure, save_figure

    blocks = [rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)]
    done = [min((i + 1) * BLOCK, len(rows)) for i in range(len(blocks))]
    columns = (
        ("processor seconds a subject", [np.median([row["cpu"] for row in block]) for block in blocks]),
        ("memory of the process, MiB", [np.median([row["mib"] for row in block]) for block in blocks]),
        ("disk a subject, KiB", [np.mean([row["bytes"] for row in block]) / 1024 for block in blocks]),
    )
    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(8.0, 2.6)
        for axis, (name, values) in zip(figure.subplots(1, len(columns)), columns, strict=True):
            axis.plot(done, values, "o-", color="#30638e", markersize=3)
            axis.set_ylim(0, 1.3 * max(values))
            axis.set_xlabel("subjects done")
            axis.set_title(name)
        save_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--prior", default="cardiac-sax")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    about = {"machine": machine(), "cases": options.cases, "scanner": asdict(SMALL)}
    write_subjects(options.folder / "data", options.cases)
    cohort = open_cohort(options.folder / "data", load_anatomy("cardiac-sax"), labels=False)
    cases = cohort.cases[: options.cases]
    rows = segment_all(cases, options.prior, options.folder / "out", options.folder / "rows.jsonl")
    for row in table(rows):
        say(" ".join(f"{name} {value:.4g}" for name, value in row.items()))
    draw(rows, options.output / "scaling.png")
    found = biobank(options.folder / "biobank", options.prior)
    say("\n".join(found.told(1)))
    large = {
        "subjects": found.cases,
        "cpu_s": found.seconds / found.cases,
        "disk_mib": found.disk_bytes / found.cases / 2**20,
        "memory_mib": found.memory_bytes / 2**20,
        "stages": dict(found.trial.stages),
        "load_after": load_average(),
    }
    write_json(options.output / "scaling.json", {**about, "table": table(rows), "biobank": large})
    return 0


if __name__ == "__main__":
    sys.exit(exit_status("scaling.py", main))
