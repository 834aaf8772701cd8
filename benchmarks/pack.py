"""Pack a cohort's labelled slices around the structures into one small file, for training elsewhere.

    python benchmarks/pack.py DATA -o build/gpu/acdc.npz [--anatomy cardiac-sax]

Images keep their resolution. Kept are 115 mm around the region's centre, in 256 levels that are finer in
dark areas. The licence of DATA also holds for the file: do not share it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case, Stack, slices_of_volume
from nisf.data.geometry import Affine, Grid
from nisf.data.region import region_from_labels
from nisf.errors import exit_status
from nisf.files import replacing

KEPT_MM = 115.0


def packed(case: Case, order: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Arrays and metadata of a case's first stack; None without labels."""
    region = region_from_labels(case, (1.0, 1.0, 1.0), order=order)
    if region is None:
        return None
    stack = case.stacks[0]
    grid = stack.grid
    middle = grid.affine.inverse(region.centre())[:2]
    reach = KEPT_MM / grid.spacing[:2]
    low = np.floor(middle - reach).clip(0).astype(int)
    high = np.minimum(np.ceil(middle + reach).astype(int) + 1, grid.shape[:2])
    shape = (*(high - low), grid.shape[2], len(grid.times))
    image, label = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    for one in case.slices:
        scaled = np.sqrt(stack.normalise(one.image)[window][..., 0])
        image[:, :, one.position, one.frame] = (255 * scaled).round()
        if one.label is not None:
            label[:, :, one.position, one.frame] = one.label[window].astype(np.uint8)
    affine = grid.affine.shifted((*low, 0)).matrix
    about = {"affine": affine.tolist(), "times": list(map(float, grid.times)), "phases": dict(case.phases)}
    return {"image": image, "label": label}, about


def unpacked(path: Path, labels: tuple[str, ...]) -> list[Case]:
    """The cases of a packed file, with intensities in [0, 1]."""
    cases = []
    with np.load(path, allow_pickle=False) as file:
        for name, about in json.loads(str(file["about"])).items():
            image = (file[f"{name}.image"].astype(np.float32) / 255)[..., None] ** 2
            label = file[f"{name}.label"].astype(np.int16)
            label[label == 255] = -1
            grid = Grid(label.shape[:3], Affine(np.array(about["affine"])), np.array(about["times"]))
            slices = slices_of_volume(image, label, grid)
            cases.append(Case(name, (Stack("sa", grid),), slices, labels, frozenset(labels), about["phases"]))
    return cases


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and pack the cohort."""
    # Where the file is only read, the libraries for images need not be.
    from nisf.io.readers import CaseReader, open_cohort

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--anatomy", default="cardiac-sax")
    options = parser.parse_args(arguments)
    anatomy = load_anatomy(options.anatomy)
    cohort = open_cohort(options.data, anatomy)
    arrays: dict[str, np.ndarray] = {}
    abouts = {}
    for _, case in CaseReader(cohort, anatomy, cohort.cases):
        found = packed(case, anatomy.reorder) if isinstance(case, Case) else None
        if found is not None and isinstance(case, Case):
            arrays |= {f"{case.name}.{part}": array for part, array in found[0].items()}
            abouts[case.name] = found[1]
    arrays["about"] = np.array(json.dumps(abouts))
    with replacing(options.output) as draft, draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    print(f"{options.output}: {len(abouts)} cases, {options.output.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("pack.py", main))
