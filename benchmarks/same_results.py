"""Does a change of the code change results? Compares the outputs of the same commands by two checkouts.

    python benchmarks/same_results.py run CHECKOUT -o OUT [--data DATA] [--only NAME ...]
    python benchmarks/same_results.py compare OUT OTHER

``run`` executes `COMMANDS` with the package of a checkout: segmentations of real and synthetic subjects
by both kinds of field, planes, points, draws from a posterior, scores, and short trainings. Existing
results are kept. ``compare`` exits with 1 unless all labels are identical and all numbers agree within
1e-6 of the largest in their file. DATA holds ``acdc``, ``hippocampus`` and ``sunnybrook``; commands that
need a missing one are left out. Everything runs on one thread, so that sums are computed in a fixed
order.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common import new_parser
from nisf.errors import exit_status
from nisf.files import read_tensors
from timing import run_nisf

TOLERANCE = 1e-6
"""Largest difference, in parts of the largest number beside it."""

BRIEF = (
    "train.steps=50 train.checkpoint_every=25 train.validate_every=25 train.validate_cases=2 train.seed=3 "
    "region.finder_steps=60"
)
LATENT = f"{BRIEF} train.compile=false train.points=256 field.width=48 field.latent=32 fit.steps=40"
IMAGE = f"{BRIEF} train.precision=fp32 image.width=12 image.pixels=64 image.pixel_mm=2.5 train.points=256"
SECOND = f"{LATENT} fit.method=second-order fit.iterations=6 fit.growth=3 fit.points_last=512"

COMMANDS = {
    "phantoms": "phantom {out}/cohort --subjects 8 --seed 5",
    "acdc": "segment {data}/acdc -o {out} --prior cardiac-sax-80 --only {out}/names.txt --probabilities",
    "acdc-hidden": "evaluate {data}/acdc --prior cardiac-sax-80 --only {out}/names.txt "
    "--hide every-2nd-slice -o {out}/scores.csv",
    "hippocampus": "segment {data}/hippocampus -o {out} --prior hippocampus --only {out}/names.txt",
    "sunnybrook": "segment {cine} -o {out}",
    "fine": "render {root}/acdc/patient005.nisf -o {out}/fine.nii.gz --spacing 3,3,4 --frames 3",
    "view": "render {root}/acdc/patient005.nisf -o {out}/view.nii.gz --view 4ch --time 0,0.5 --probabilities",
    "points": "render {root}/acdc/patient005.nisf -o {out}/points.csv --points {out}/asked.csv",
    "image-prior": f"train {{cohort}} -o {{out}} --preset image --set {IMAGE}",
    "latent-prior": f"train {{cohort}} -o {{out}} --preset cpu --set {LATENT}",
    "second-prior": f"train {{cohort}} -o {{out}} --preset cpu --set {SECOND}",
    "image": "segment {cohort} -o {out} --prior {root}/image-prior --only {out}/names.txt",
    "latent": "segment {cohort} -o {out} --prior {root}/latent-prior --only {out}/names.txt --probabilities",
    "second": "segment {cohort} -o {out} --prior {root}/second-prior --only {out}/names.txt "
    "--shifts --gains --pose --islands remove",
    "samples": "render {root}/second/phantom0002.nisf -o {out}/draws.nii.gz --samples 4 --std "
    "--spacing 4,4,8 --frames 2",
    "latent-hidden": "evaluate {cohort} --prior {root}/latent-prior --only {out}/names.txt "
    "--hide every-2nd-slice -o {out}/scores.csv",
    "image-hidden": "evaluate {cohort} --prior {root}/image-prior --only {out}/names.txt "
    "--hide all-but-3 -o {out}/scores.csv",
}
"""Name to the arguments of `nisf`, and name of the folder of what it writes."""

NAMES = {
    "acdc": ["patient005", "patient025", "patient045", "patient065", "patient085"],
    "hippocampus": ["hippocampus_020", "hippocampus_185", "hippocampus_250"],
}
PHANTOMS = ["phantom0002", "phantom0005"]


def run(checkout: Path, output: Path, data: Path | None, only: list[str]) -> None:
    """Run the commands; the folder of each is marked when it is done.

    Raises:
        NisfError: a command failed.
    """
    root = output.resolve()
    for name, text in COMMANDS.items():
        folder = root / name
        done = root / f"{name}.seconds"
        if done.is_file() or (only and name not in only):
            continue
        if data is None and ("{data}" in text or "{cine}" in text or "/acdc/" in text):
            print(f"{name}: left out, no --data")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        names = NAMES.get(name.removesuffix("-hidden"), PHANTOMS)
        (folder / "names.txt").write_text("\n".join(names) + "\n")
        (folder / "asked.csv").write_text("x,y,z,t\n150,130,40,0\n150,130,44,0.3\n170,140,60,0.5\n0,0,0,0\n")
        cine = "" if data is None else str(sorted((data / "sunnybrook").rglob("*[!t].nii.gz"))[0].resolve())
        where = {
            "out": folder,
            "root": root,
            "cohort": root / "phantoms" / "cohort",
            "data": data and data.resolve(),
            "cine": cine,
        }
        seconds, _ = run_nisf(checkout, text.format(**where).split(), root)
        done.write_text(f"{seconds['wall']:.1f}\n")
        print(f"{name}: {seconds['wall']:.1f} s", flush=True)


def contents(path: Path) -> dict[str, np.ndarray]:
    """All numbers and words of a file (see `compared`), as arrays by name."""
    if path.name.endswith(".nii.gz"):
        import nibabel

        image = nibabel.load(path)
        return {"voxels": np.asarray(image.dataobj), "affine": np.asarray(image.affine)}  # ty: ignore[missing-attribute]
    if path.suffix == ".safetensors":
        return {name: tensor.numpy() for name, tensor in read_tensors(path)[0].items()}
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        return {f"row {i}": np.array([_number(cell) for cell in row], object) for i, row in enumerate(rows)}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {f"line {i}": np.array(_leaves(json.loads(line)), object) for i, line in enumerate(lines)}


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _leaves(data: object) -> list[object]:
    if isinstance(data, dict):
        return [leaf for key in sorted(data) for leaf in (key, *_leaves(data[key]))]
    if isinstance(data, list):
        return [leaf for item in data for leaf in _leaves(item)]
    return [data]


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference relative to the largest number; infinite if words or integers differ."""
    if first.shape != second.shape:
        return float("inf")
    if first.dtype == object:
        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        if any(isinstance(a, str) or isinstance(b, str) for a, b in pairs if a != b):
            return float("inf")
        a, b = (np.array([p[i] for p in pairs if not isinstance(p[0], str)], dtype=float) for i in (0, 1))
        return difference(a, b) if len(a) else 0.0
    if first.dtype.kind in "iub":
        return 0.0 if np.array_equal(first, second) else float("inf")
    if not first.size:
        return 0.0
    a, b = first.astype(np.float64), second.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not (np.isfinite(a) & np.isfinite(b) | same).all():
        return float("inf")
    away = np.abs(a[~same] - b[~same])
    return float(away.max(initial=0.0) / np.abs(a[np.isfinite(a)]).max(initial=1e-12))


def compared(path: Path) -> bool:
    """Whether the content of a file with this name consists of results only."""
    if path.name == "checkpoint.safetensors":
        return False
    return path.name.endswith((".nii.gz", ".safetensors", ".csv")) or path.name == "log.jsonl"


def compared_files(folder: Path) -> set[Path]:
    """Paths of the files below a folder that are to be compared, relative to it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in paths if compared(path) and ".cache" not in path.parts}


def compare(first: Path, second: Path) -> bool:
    """Whether everything agrees; prints each file that does not, and the largest difference of all."""
    worst, alike = 0.0, True
    here, there = compared_files(first), compared_files(second)
    for path in sorted(here ^ there):
        print(f"{(second if path in here else first) / path}: missing")
        alike = False
    for path in sorted(here & there):
        found, other = contents(first / path), contents(second / path)
        if set(found) != set(other):
            print(f"{second / path}: has {sorted(set(found) ^ set(other))[:3]} more or less")
            alike = False
            continue
        away = max((difference(found[name], other[name]) for name in found), default=0.0)
        worst = max(worst, away)
        if away > TOLERANCE:
            print(f"{path}: differs by {away:.3g}")
            alike = False
    print(f"{len(here | there)} files, largest difference {worst:.3g} of the largest number")
    return alike and bool(here)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, run or compare, and return the exit status."""
    parser = new_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("checkout", type=Path)
    runs.add_argument("-o", "--output", type=Path, required=True)
    runs.add_argument("--data", type=Path)
    runs.add_argument("--only", nargs="*", default=[])
    compares = verbs.add_parser("compare")
    compares.add_argument("first", type=Path)
    compares.add_argument("second", type=Path)
    options = parser.parse_args(arguments)
    if options.verb == "compare":
        return 0 if compare(options.first, options.second) else 1
    run(options.checkout, options.output, options.data, options.only)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("same_results.py", main))
