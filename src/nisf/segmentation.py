"""From a case to the files of its segmentation: fit, render, write."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from nisf.config.schema import FitConfig, Islands, Method
from nisf.data.case import Case
from nisf.data.region import Region, reference_pose
from nisf.errors import NisfError
from nisf.io.subject_file import read_fitted, write_fitted
from nisf.io.writers import file_word, write_labels_json, write_rendering
from nisf.kinds.latent.fit import Finding, fit
from nisf.prior.bundled import DEFAULT
from nisf.prior.prior import Prior, load_prior
from nisf.subject.subject import Fitted


@dataclass(frozen=True)
class Request:
    """What is wanted of each case.

    Attributes:
        spacing: mm along the stack's axes; None for the input's own grid.
        frames: equally spaced times of the cycle; None for the input's own.
        probabilities: whether to write one more file per class.
        find: how to find the region.
        centre: world mm of the region's centre, instead of finding it.
        steps: fitting steps, or iterations of the second-order method; None for the prior's.
        seed: seed of the drawn points.
        method: how to fit; None for the prior's way.
        shifts: whether to fit each slice's in-plane shift too.
        gains: whether to fit each slice's gain and offset too.
        pose: whether to fit a shift and rotation of the whole subject too.
        islands: whether parts apart from a structure's largest part are kept; None for the prior's way.
    """

    spacing: tuple[float, float, float] | None = None
    frames: int | None = None
    probabilities: bool = False
    find: Finding = "auto"
    centre: tuple[float, float, float] | None = None
    steps: int | None = None
    seed: int = 0
    method: Method | None = None
    shifts: bool = False
    gains: bool = False
    pose: bool = False
    islands: Islands | None = None

    def config(self, config: FitConfig) -> FitConfig:
        """The settings of the fit, starting from the prior's."""
        # Breath-holds differ by some millimetres, and a coil's shading by some tenths of a logit.
        wishes = {
            "method": self.method,
            "shift_mm": 4.0 if self.shifts else None,
            "gain": 0.2 if self.gains else None,
            "pose_mm": 6.0 if self.pose else None,
            "pose_degrees": 8.0 if self.pose else None,
            "islands": self.islands,
        }
        config = replace(config, **{name: value for name, value in wishes.items() if value is not None})
        if self.steps is None:
            return config
        counted = "iterations" if config.method == "second-order" else "steps"
        return replace(config, **{counted: self.steps})


def outputs(
    case: str, stacks: int, names: list[str], labels: tuple[str, ...], probabilities: bool
) -> list[str]:
    """Names of the files that a case's segmentation consists of."""
    out = [f"{case}.nisf"]
    for index in range(stacks):
        stem = case if index == 0 else f"{case}_{names[index]}"
        out += [f"{stem}_seg.nii.gz", f"{stem}_image.nii.gz"]
        if probabilities:
            out += [f"{stem}_probability-{file_word(label)}.nii.gz" for label in labels]
    return out


def done_already(case: Case, prior: Prior, folder: Path, request: Request) -> bool:
    """Whether the same request was carried out on the same input before, to the last file."""
    names = [stack.name for stack in case.stacks]
    files = outputs(case.name, len(names), names, prior.anatomy.labels, request.probabilities)
    if not all((folder / file).is_file() for file in files):
        return False
    try:
        fitted = read_fitted(folder / f"{case.name}.nisf", prior)
    except NisfError:
        return False  # another prior's, or damaged: it is made anew
    return fitted.summary.get("request") == _asked(case, request)


def _asked(case: Case, request: Request) -> dict[str, object]:
    """The request and the state of the input, comparable after a round trip through JSON."""
    inputs = []
    for stack in case.stacks:
        if stack.source is not None and Path(stack.source).is_file():
            status = Path(stack.source).stat()
            inputs.append([str(stack.source), status.st_size, status.st_mtime_ns])
    return json.loads(json.dumps({**asdict(request), "inputs": inputs}))


def segment_case(case: Case, prior: Prior, request: Request) -> Fitted:
    """Fit a case as requested.

    Raises:
        NisfError: it cannot be fitted.
    """
    asked = request.steps or request.method or request.shifts or request.gains or request.pose
    if asked and prior.config.field.kind == "image":
        raise NisfError(
            "--steps, --method, --shifts, --gains, --pose: this prior sees the slices and fits nothing; "
            "leave them out, or give a prior of the preset 'cpu' or 'paper'"
        )
    config = request.config(prior.config.fit)
    region = None
    if request.centre is not None:
        half = prior.half
        if half is None:
            raise NisfError("--centre: this prior looks at the whole field of view; leave the centre out")
        region = Region(reference_pose(case, np.array(request.centre)), half)
    fitted = fit(case, prior, region=region, find=request.find, config=config, seed=request.seed)
    return replace(fitted, summary={**fitted.summary, "request": _asked(case, request)})


def write_segmentation(
    fitted: Fitted, folder: str | Path, request: Request | None = None, *, memory_mb: float = 512.0
) -> list[Path]:
    """Render every stack of a fitted subject and write it; the ``.nisf`` file comes last.

    Returns:
        The files written.

    Raises:
        NisfError: a file cannot be written.
    """
    request = request or Request()
    folder = Path(folder)
    labels = fitted.prior.anatomy.labels
    write_labels_json(folder, labels)
    written: list[Path] = []
    for index, stack in enumerate(fitted.stacks):
        grid = stack.grid
        if request.spacing is not None:
            grid = grid.at_spacing(request.spacing)
        if request.frames is not None:
            grid = grid.with_frames(request.frames)
        own = request.spacing is None and request.frames is None
        rendering = fitted.render(
            None if own else grid, probabilities=request.probabilities, memory_mb=memory_mb, stack=index
        )
        stem = fitted.name if index == 0 else f"{fitted.name}_{stack.name}"
        written += write_rendering(folder, stem, rendering, labels, stack=stack, own=own)
    path = folder / f"{fitted.name}.nisf"
    write_fitted(path, fitted)
    return [*written, path]


def segment(path: str | Path, prior: Prior | str | Path = DEFAULT, request: Request | None = None) -> Fitted:
    """Fit one image file or case folder.

    Args:
        path: a NIfTI file, or a case folder of a known layout.
        prior: a prior, its folder, or the name of a model that comes with the package.
        request: other wishes.

    Raises:
        NisfError: the input or the prior cannot be read, or there is more than one case.
    """
    from nisf.io.readers import open_cohort, read_case

    prior = prior if isinstance(prior, Prior) else load_prior(prior)
    cohort = open_cohort(path, prior.anatomy)
    if len(cohort.cases) != 1:
        raise NisfError(
            f"{path}: holds {len(cohort.cases)} cases; give one, or use 'nisf segment' for a cohort"
        )
    return segment_case(
        read_case(cohort.cases[0].without_labels(), prior.anatomy), prior, request or Request()
    )
