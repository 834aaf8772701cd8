"""Would a fast mode pay off? What omitting each part saves, and what it costs in Dice.

    python benchmarks/fast.py PRIOR --data DATA -o OUT [--cases N] [--only acdc mnms-a]

DATA holds the folders ``acdc`` (only patients whose number is divisible by five are used) and ``mnms-a``.
Every case is fitted and rendered in each mode, in turn, and its CPU seconds and mean Dice are recorded.
The time to write all files, with measures, error bars and the light, is recorded as well. An interrupted
run resumes. OUT gets ``fast.jsonl`` and ``fast.json``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import prior_parser
from nisf.data.case import Case
from nisf.errors import NisfError, exit_status
from nisf.evaluation.scores import score_case
from nisf.files import write_json
from nisf.io.readers import open_cohort, read_case
from nisf.kinds.load import load_prior
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.segmentation import segment_case, write_segmentation
from nisf.segmentation.measures import MeasureFiles
from timing import load_average, machine

FOLDERS = ("acdc", "mnms-a")
WAYS: dict[str, Callable[[Prior], Prior]] = {
    "whole": lambda prior: prior,
    "no mirror": lambda prior: replace(
        prior, config=replace(prior.config, image=replace(prior.config.image, mirrors=0))
    ),
    "counted from one end": lambda prior: replace(prior, anatomy=replace(prior.anatomy, reorder=False)),
    "islands kept": lambda prior: replace(
        prior, config=replace(prior.config, fit=replace(prior.config.fit, islands="keep", certain=()))
    ),
}
WAYS["neither"] = lambda prior: WAYS["no mirror"](WAYS["counted from one end"](prior))
"""How a prior is asked; cases are read as the whole way has them read."""

Row = dict[str, Any]


def one_way(case: Case, prior: Prior) -> Row:
    """CPU seconds of fitting and rendering a case, and its mean Dice."""
    began = time.process_time()
    rendering = fit(case, prior).render()
    seconds = time.process_time() - began
    scores = score_case(rendering.label.astype(np.int16), case)
    return {"seconds": seconds, "dice": float(np.mean([score.dice for score in scores]))}


def around(case: Case, prior: Prior) -> float:
    """CPU seconds of a case from its images to all output files."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        write_segmentation(segment_case(case, prior), folder, case=case, writers=[MeasureFiles()])
    return time.process_time() - began


def row_of(case: Case, prior: Prior) -> Row:
    """Results of one case in all modes."""
    ways = {name: one_way(case, way(prior)) for name, way in WAYS.items()}
    return {"frames": len(case.stacks[0].grid.times), "ways": ways, "all_files": around(case, prior)}


def chosen(folder: Path, prior: Prior, count: int | None) -> list[Any]:
    """The cases of a folder that no judged model was trained on."""
    cases = open_cohort(folder, prior.anatomy).cases
    if folder.name == "acdc":
        cases = [files for files in cases if int(files.name[-3:]) % 5 == 0]
    return list(cases)[:count]


def summary(rows: Sequence[Row]) -> Row:
    """Means over the cases; seconds are per volume."""
    frames = sum(row["frames"] for row in rows)
    found: Row = {"cases": len(rows), "all files, s": sum(row["all_files"] for row in rows) / frames}
    for name in WAYS:
        dice = [row["ways"][name]["dice"] for row in rows]
        seconds = sum(row["ways"][name]["seconds"] for row in rows) / frames
        found[name] = {"seconds": seconds, "dice": float(np.mean(dice)), "worst": float(np.min(dice))}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser = prior_parser(__doc__)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--only", nargs="+", choices=FOLDERS, default=FOLDERS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    prior = load_prior(options.prior)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "fast.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    known = {(row["prior"], row["folder"], row["case"]) for row in rows}
    for folder in options.only:
        for files in chosen(options.data / folder, prior, options.cases):
            key = {"prior": prior.fingerprint, "folder": folder, "case": files.name}
            if tuple(key.values()) in known:
                continue
            try:
                row: Row = {**key, **row_of(read_case(files, prior.anatomy), prior)}
            except NisfError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            rows.append(row)
            told = ", ".join(f"{w} {v['dice']:.3f} {v['seconds']:.1f} s" for w, v in row["ways"].items())
            print(f"{files.name}: {told}", flush=True)
    ours = [row for row in rows if row["prior"] == prior.fingerprint]
    found = {
        folder: summary(own)
        for folder in FOLDERS
        if (own := [row for row in ours if row["folder"] == folder])
    }
    for folder, means in found.items():
        print(f"{folder}: {json.dumps(means)}")
    write_json(options.output / "fast.json", {"machine": {**machine(), "load": load_average()}, **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("fast.py", main))
