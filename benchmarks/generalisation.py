"""A prior on its own data set, on another scanner, and between slices: the main table of the results.

    python benchmarks/generalisation.py PRIOR --data DATA -o OUT [--parts NAME ...] [--cases N] [--json FILE]

DATA holds the folders ``acdc``, ``mnms-a``, ``sunnybrook`` and ``hippocampus``. Only validation cases are
scored: of ACDC and the hippocampi those whose number is divisible by five, of the others all.

    given        ACDC, every slice given and scored
    every-2nd    ACDC, every second slice hidden; the hidden slices are scored
    basal        ACDC, the last labelled slice at the base and those beyond it hidden; likewise scored
    apical       ACDC, the same at the apex
    mnms-a       M&Ms vendor A, every slice given: another hospital and another scanner
    sunnybrook   whole cines from a third scanner: the first structure where an expert drew it
    hippocampus  the other anatomy, by the model that --hippocampus names

A case's Dice is the mean over its structures and phases, each of a whole volume; a part's Dice is the
mean over cases. Seconds are CPU seconds of one thread for finding, encoding and rendering one volume. The
results of each case are stored in OUT under the prior's fingerprint, so that an interrupted run resumes.
``--json`` (by default OUT/generalisation.json) gets the numbers that ``python3 dev.py docs`` writes into
the documents.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import Refused, prior_parser
from nisf.data.case import Case
from nisf.data.hiding import hide
from nisf.errors import BadFileError, exit_status
from nisf.evaluation.metrics import Score, dice
from nisf.evaluation.scores import score_case
from nisf.files import replacing
from nisf.io.readers import open_cohort, read_case, read_image
from nisf.io.readers.nifti import read_numbers
from nisf.kinds.load import load_prior
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from timing import machine
from train_models import kept_out

SUNNYBROOK_NUMBER = 3
"""Of the left ventricle's blood pool in Sunnybrook's label files."""

Row = dict[str, Any]
Named = tuple[str, Callable[[], Row]]
"""A case's name, and what scores it."""


@dataclass(frozen=True)
class Part:
    """A part of the results: one line of the table.

    Attributes:
        folder: folder of the data set in DATA.
        protocol: which slices are hidden.
        validation: whether only cases with a number divisible by five are scored.
        other: whether the model for the other anatomy is asked.
        cine: whether the folder holds whole cines with contours in some frames.
    """

    folder: str
    protocol: str = "none"
    validation: bool = True
    other: bool = False
    cine: bool = False


PARTS = {
    "given": Part("acdc"),
    "every-2nd": Part("acdc", "every-2nd-slice"),
    "basal": Part("acdc", "basal"),
    "apical": Part("acdc", "apical"),
    "mnms-a": Part("mnms-a", validation=False),
    "sunnybrook": Part("sunnybrook", validation=False, cine=True),
    "hippocampus": Part("hippocampus", other=True),
}


def row_of(scores: Sequence[Score], seconds: float, volumes: int) -> Row:
    """The stored results of a case: mean Dice, Dice and volumes by structure and phase, HD95, time."""
    each = [
        {
            "structure": s.label,
            "phase": s.phase,
            "dice": s.dice,
            "hd95_mm": s.hd95_mm,
            "ml": s.volume_ml,
            "reference_ml": s.reference_ml,
        }
        for s in scores
    ]
    return {
        "dice": float(np.mean([s.dice for s in scores])),
        "hd95_mm": float(np.mean([s.hd95_mm for s in scores])),
        "seconds": seconds / volumes,
        "scores": each,
    }


def scored(case: Case, prior: Prior, protocol: str) -> Row:
    """Results of a labelled case, fitted to the given slices and scored on the protocol's."""
    seen, hidden = hide(case, protocol)
    began = time.process_time()
    rendering = fit(seen, prior).render()
    seconds = time.process_time() - began
    part = {s.position for s in hidden.slices} != {s.position for s in case.slices}
    found = score_case(rendering.label.astype(np.int16), hidden, outlines=part)
    return row_of(found, seconds, len(rendering.grid.times))


def scored_cine(path: Path, prior: Prior) -> Row:
    """Results of a whole cine: the first structure in the slices where an expert drew it."""
    began = time.process_time()
    case = read_image(path, prior.anatomy)
    rendering = fit(case, prior).render()
    seconds = time.process_time() - began
    numbers, _ = read_numbers(path.with_name(path.name.replace("_sa.", "_sa_gt.")))
    truth = case.stacks[0].arrangement.apply(np.asarray(numbers == SUNNYBROOK_NUMBER))
    frames = []
    for frame in np.flatnonzero(truth.any((0, 1, 2))).tolist():
        ours, drawn = rendering.label[..., frame] == 1, truth[..., frame]
        contoured = drawn.any((0, 1))
        volumes = [float(mask.sum() * rendering.grid.voxel_ml) for mask in (ours, drawn)]
        frames.append(
            {
                "frame": frame,
                "dice": dice(ours[:, :, contoured], drawn[:, :, contoured]),
                "dice_volume": dice(ours, drawn),
                "ml": volumes[0],
                "reference_ml": volumes[1],
                "volume_error": volumes[0] / volumes[1] - 1,
            }
        )
    mean = float(np.mean([f["dice"] for f in frames]))
    return {"dice": mean, "seconds": seconds / len(rendering.grid.times), "frames": frames}


def cases_of_part(part: Part, data: Path, prior: Prior) -> Iterator[Named]:
    """The cases of a part, by name.

    Raises:
        BadFileError: its folder holds none.
    """
    folder = data / part.folder
    if part.cine:
        cines = sorted(folder.glob("*_sa.nii.gz"))
        if not cines:
            raise BadFileError(f"{folder}: holds no cine NAME_sa.nii.gz")
        yield from ((path.name.removesuffix(".nii.gz"), partial(scored_cine, path, prior)) for path in cines)
        return
    found = {files.name: files for files in open_cohort(folder, prior.anatomy).cases}
    names = kept_out(list(found)) if part.validation else list(found)
    for name in names:
        files = found[name]
        yield name, lambda files=files: scored(read_case(files, prior.anatomy), prior, part.protocol)


@dataclass
class Kept:
    """Results of finished cases, appended to a file.

    Attributes:
        path: path of the file: a JSON object a line.
        rows: by part, fingerprint of the prior, and case.
    """

    path: Path
    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):  # the last may be half a line
                    row = json.loads(line)
                    self.rows[row["part"], row["prior"], row["case"]] = row

    def add(self, part: str, prior: str, case: str, row: Row) -> Row:
        """Store the results of a case."""
        row = {"part": part, "prior": prior, "case": case, **row}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[part, prior, case] = row
        return row


def summary_of(part: Part, rows: Sequence[Row]) -> Row:
    """The numbers of a part, from the results of its cases."""
    values = [row["dice"] for row in rows]
    worst = int(np.argmin(values))
    found: Row = {
        "cases": len(rows),
        "dice": float(np.mean(values)),
        "sd": float(np.std(values)),
        "worst": values[worst],
        "worst_case": rows[worst]["case"],
        "seconds": float(np.median([row["seconds"] for row in rows])),
    }
    if part.cine:
        errors = [frame["volume_error"] for row in rows for frame in row["frames"]]
        found["least"] = min(frame["dice"] for row in rows for frame in row["frames"])
        found["dice_volume"] = float(np.mean([f["dice_volume"] for row in rows for f in row["frames"]]))
        found["volume_error"] = float(np.mean(np.abs(errors)))
        found["largest_volume_error"] = max(errors, key=abs)
        return found
    found["hd95_mm"] = float(np.mean([row["hd95_mm"] for row in rows]))
    each: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for score in row["scores"]:
            each.setdefault((score["structure"], score["phase"]), []).append(score["dice"])
    found["structures"] = [
        {"structure": name, "phase": phase, "dice": float(np.mean(dices)), "sd": float(np.std(dices))}
        for (name, phase), dices in each.items()
    ]
    return found


def line_of(name: str, found: Row) -> str:
    """The numbers of a part as one line of text."""
    line = f"{name:12s} {found['cases']:3d} cases  Dice {found['dice']:.4f}"
    line += f"  worst {found['worst']:.3f} ({found['worst_case']})  {found['seconds']:.2f} s a volume"
    if "volume_error" in found:
        mean, most = 100 * found["volume_error"], 100 * found["largest_volume_error"]
        line += f"  volume {mean:.1f} % off, at most {most:+.1f} %"
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, score the cases that are not stored yet, print and write."""
    parser = prior_parser(__doc__)
    parser.add_argument("--hippocampus", default="hippocampus", help="the other anatomy's prior")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--cases", type=int, help="of each part at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kept, refused = Kept(options.output / "cases.jsonl"), Refused()
    parts: dict[str, Row] = {}
    for name in options.parts:
        part = PARTS[name]
        prior = load_prior(options.hippocampus if part.other else options.prior)
        rows = []
        for case, score in list(cases_of_part(part, options.data, prior))[: options.cases]:
            row = kept.rows.get((name, prior.fingerprint, case))
            if row is None:
                with refused.go_on(f"{name} {case}"):
                    row = kept.add(name, prior.fingerprint, case, score())
                    print(f"{name} {case}: Dice {row['dice']:.3f}", flush=True)
            rows += [row] if row else []
        if rows:
            parts[name] = {"prior": prior.fingerprint, **summary_of(part, rows)}
            print(line_of(name, parts[name]), flush=True)
    refused.check_any(parts)
    result = {"prior": Path(options.prior).name, "refused": sorted(refused.sentences), "parts": parts}
    result["machine"] = {key: value for key, value in machine().items() if key != "load_before"}
    with replacing(options.json or options.output / "generalisation.json") as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return refused.status()


if __name__ == "__main__":
    raise SystemExit(exit_status("generalisation.py", main))
