"""Cohorts of phantoms: healthy and diseased hearts, each scanned slightly differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.optimize import brentq

from nisf.data.anatomy import load_anatomy
from nisf.files import replacing, write_json
from nisf.outputs import Made, recorded, refuse_to_replace
from nisf.phantom.heart import (
    CUT,
    LABELS,
    LV,
    RV,
    Heart,
    ejection_fraction,
    right_volume_mm3,
    shape_at,
    volumes_ml,
)
from nisf.phantom.scanner import Scan, Scanner, long_axis, scan, scan_plane

# Fraction of the population, end-diastolic volume (mL), ejection fraction, wall (mm), length over width,
# and the right ventricle's end-diastolic volume relative to the left one's.
GROUPS = {
    "normal": (0.4, (95, 180), (0.53, 0.70), (6.5, 9.5), (1.70, 2.00), (0.90, 1.20)),
    "dilated": (0.2, (180, 260), (0.20, 0.42), (6.0, 9.0), (1.35, 1.65), (0.55, 0.85)),
    "hypertrophic": (0.2, (70, 130), (0.60, 0.75), (11.0, 15.0), (1.70, 2.00), (0.90, 1.20)),
    "infarcted": (0.1, (130, 210), (0.28, 0.48), (6.0, 9.0), (1.55, 1.85), (0.70, 1.00)),
    "right": (0.1, (75, 140), (0.45, 0.62), (6.5, 9.5), (1.70, 2.00), (1.35, 1.75)),
}


def random_heart(rng: np.random.Generator, group: str | None = None) -> Heart:
    """A random heart of the population, or of one of its ``GROUPS``.

    Left end-diastolic volume 70-260 mL, ejection fraction 20-75 %, wall 6-15 mm. The right ventricle is
    as wide as its volume requires, and ejects as much as the left one where its wall can move that far.

    Raises:
        ValueError: no such group.
    """
    if group is not None and group not in GROUPS:
        raise ValueError(f"a group of hearts is one of {', '.join(GROUPS)}, not {group!r}")
    name = group or str(rng.choice(list(GROUPS), p=[row[0] for row in GROUPS.values()]))
    volume, ejection, wall, elongation, right = (rng.uniform(*limits) for limits in GROUPS[name][1:])
    # Of a cut ellipsoid of unit radius, twice `elongation` long (see `heart.shape_at`).
    unit = np.pi * 2 * elongation * (1 + CUT - (1 + CUT**3) / 3) / (1 + CUT)
    radius = float((volume * 1000 / unit) ** (1 / 3))
    heart = Heart(
        radius_mm=radius,
        length_mm=2 * radius * elongation,
        wall_mm=wall,
        ejection_fraction=ejection,
        rv_span=rng.uniform(1.0, 1.1),
        rv_wrap=rng.uniform(0.25, 0.4),
        end_systole=rng.uniform(0.30, 0.42),
        roll_deg=_about(rng, 10),
        tilt_deg=(_about(rng, 8), _about(rng, 7)),
        centre_mm=(rng.normal(-30, 15), rng.normal(20, 15), rng.normal(0, 30)),
        chest=int(rng.integers(2**31)),
    )

    def right_ml(width: float, moved: float, time: float) -> float:
        other = replace(heart, rv_width_mm=width, rv_contraction=moved)
        # A coarse sum is within 0.2 %, which is enough for the many evaluations of the root finder.
        return right_volume_mm3(shape_at(other, time), steps=80) / 1000

    width = _solve(lambda width: right_ml(width, 0.5, 0.0) - right * volume, 8.0, 75.0)
    full, share = right_ml(width, 0.5, 0.0), min(0.7, ejection / right)
    moved = _solve(lambda moved: 1 - right_ml(width, moved, heart.end_systole) / full - share, 0.02, 0.75)
    return replace(heart, rv_width_mm=width, rv_contraction=moved)


def _about(rng: np.random.Generator, spread: float) -> float:
    """A normal random number, truncated at two standard deviations."""
    return float(np.clip(rng.normal(0, spread), -2 * spread, 2 * spread))


def _solve(error: Callable[[float], float], low: float, high: float) -> float:
    """The root of the increasing function ``error``, or the nearer end of the interval."""
    if error(low) >= 0:
        return low
    return high if error(high) <= 0 else float(brentq(error, low, high, xtol=1e-3))


def subject(seed: int, index: int, scanner: Scanner | None = None) -> tuple[Heart, Scanner]:
    """One subject's heart and its scanner settings: rotation, tilt, offset and brightness vary."""
    rng = np.random.default_rng([seed, index])
    heart = random_heart(rng)
    scanner = scanner or Scanner()
    return heart, replace(
        scanner,
        cycle_ms=scanner.cycle_ms * rng.uniform(0.75, 1.25),
        scale=scanner.scale * rng.uniform(0.5, 2.0),
        rotation_deg=scanner.rotation_deg + _about(rng, 12),
        tilt_deg=(scanner.tilt_deg[0] + _about(rng, 3), scanner.tilt_deg[1] + _about(rng, 3)),
        offset_mm=(scanner.offset_mm[0] + _about(rng, 8), scanner.offset_mm[1] + _about(rng, 8)),
    )


def cohort(n: int, seed: int, scanner: Scanner | None = None) -> Iterator[Scan]:
    """Scans of ``n`` subjects; subject ``index`` is the same however many there are.

    Args:
        n: number of subjects.
        seed: seed of the anatomy, noise and slice shifts.
        scanner: what the subjects' own settings (see `subject`) vary around.
    """
    for index in range(n):
        heart, own = subject(seed, index, scanner)
        yield scan(
            heart, own, int(np.random.default_rng([seed, index, 1]).integers(2**31)), name=_name(index)
        )


def _name(index: int) -> str:
    return f"phantom{index:04d}"


def write_cohort(
    folder: str | Path,
    n: int,
    seed: int,
    scanner: Scanner | None = None,
    *,
    views: Sequence[str] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write a cohort in UK Biobank's layout; returns one folder per subject.

    Each has ``sa.nii.gz`` (4D cine), ``seg_sa.nii.gz`` (UK Biobank's numbers, every frame) and
    ``truth.json``: the heart, its true volumes (mL) at end-diastole, end-systole and every frame, its
    ejection fractions, and the shift (mm) of every slice. Each of ``views`` (see
    `nisf.phantom.scanner.long_axis`) adds a long-axis cine, e.g. ``la_4ch.nii.gz``, shifted like a slice.
    ``overwrite`` replaces existing files, whoever wrote them.

    Raises:
        BadFileError: a file exists that nisf did not write, or a file cannot be written.
    """
    numbers = {label: number for number, label in load_anatomy("cardiac-sax").numbers["ukb"].items()}
    table = np.array([numbers.get(label, 0) for label in LABELS], dtype=np.int16)
    written, made = [], Made(options={"seed": seed})
    files = ["sa.nii.gz", "seg_sa.nii.gz", "truth.json", *(f"la_{view}.nii.gz" for view in views)]
    for index in range(0 if overwrite else n):  # before anything is computed
        refuse_to_replace(Path(folder) / _name(index), "", "phantom", planned=files)
    for index, one in enumerate(cohort(n, seed, scanner)):
        path = Path(folder) / one.case.name
        with recorded(path, "", "phantom", made, planned=files, overwrite=overwrite):
            image, labels = volume(one)
            _write(path / "sa.nii.gz", image.astype(np.int16), one)
            _write(path / "seg_sa.nii.gz", table[labels], one)
            write_json(path / "truth.json", truth(one))
            for view in views:
                plane = _long_axis(one, view, seed, index, scanner)
                _write(path / f"la_{view}.nii.gz", volume(plane)[0].astype(np.int16), plane)
        written.append(path)
    return written


def _long_axis(one: Scan, view: str, seed: int, index: int, scanner: Scanner | None) -> Scan:
    """A long-axis cine of a scanned heart, in a breath-hold of its own."""
    _, own = subject(seed, index, scanner)
    grid = long_axis(one.heart, view, spacing_mm=own.spacing_mm, frames=own.frames)
    number = sum(view.encode())  # different views get different shifts
    drawn = np.random.default_rng([seed, index, number]).integers(2**31)
    return scan_plane(one.heart, grid, own, int(drawn), stack=f"la_{view}", name=one.case.name)


def volume(one: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels (x, y, z, t) of a scan, from its slices."""
    grid = one.case.stacks[0].grid
    image = np.zeros((*grid.shape, len(grid.times)), dtype=np.float32)
    labels = np.zeros(image.shape, dtype=np.int16)
    for piece in one.case.slices:
        assert piece.label is not None
        image[:, :, piece.position, piece.frame] = piece.image[..., 0]
        labels[:, :, piece.position, piece.frame] = piece.label
    return image, labels


def truth(one: Scan) -> dict:
    """Ground truth of a scan as JSON data; see `write_cohort`."""
    heart, times = one.heart, one.case.stacks[0].grid.times
    return {
        "heart": asdict(heart),
        "volumes_ml": {"ED": volumes_ml(heart, 0.0), "ES": volumes_ml(heart, heart.end_systole)},
        "ejection_fraction": {LABELS[k]: ejection_fraction(heart, LABELS[k]) for k in (LV, RV)},
        "phases": dict(one.case.phases),
        "times": times.tolist(),
        "frames_ml": [volumes_ml(heart, float(time)) for time in times],
        "shifts_mm": one.shifts_mm.tolist(),
    }


def _write(path: Path, values: np.ndarray, one: Scan) -> None:
    stack = one.case.stacks[0]
    image = nib.Nifti1Image(values, stack.grid.affine.matrix)
    image.set_qform(stack.grid.affine.matrix, code=1)
    image.set_sform(stack.grid.affine.matrix, code=1)
    image.header.set_xyzt_units("mm", "msec")
    assert stack.cycle_ms is not None
    image.header.set_zooms((*map(float, stack.grid.spacing), stack.cycle_ms / len(stack.grid.times)))
    with replacing(path) as temporary:
        nib.save(image, temporary)
