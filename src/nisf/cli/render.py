"""``nisf render``: query a subject again, without fitting."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from nisf.cli.parse import refuse_missing, refuse_missing_prior, working_memory

if TYPE_CHECKING:
    from nisf.data.geometry import Grid
    from nisf.subject.rendering import Rendering
    from nisf.subject.subject import Subject

IMAGES = (".nii.gz", ".nii", ".hdr", ".nrrd", ".mha")
ENDINGS = (*IMAGES, ".png", ".csv")
"""Supported extensions of the output."""
SIDE_MM = 160.0
"""Side length of a plane."""
DRAWS = 16
"""Number of draws for a standard deviation."""
OUTSIDE = "outside the region, where every answer is background"
"""Said of points and planes."""


@dataclass(frozen=True)
class Render:
    """Evaluate a fitted subject (NAME.nisf) on any grid or plane, at any time, or at a list of points.

    The ending of the output sets the format. NAME.nii.gz writes NAME_seg.nii.gz and NAME_image.nii.gz; the
    endings .nii, .hdr (a NIfTI pair), .nrrd and .mha work the same way. NAME.png is a picture of a plane at
    up to six of its times. NAME.csv, with --points, has one row per point.
    """

    subject: Annotated[Positional[Path], arg(metavar="SUBJECT")]
    """File of a subject, as nisf segment writes it."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """File to write: .nii.gz, .nii, .hdr, .nrrd, .mha, .png or .csv."""
    prior: Path | None = None
    """Folder of the prior, if it has moved."""
    spacing: str | None = None
    """Spacing X,Y,Z in mm along the stack's axes; for a plane, one number."""
    frames: int | None = None
    """Number of equally spaced frames of the cycle; by default the measured ones."""
    time: str | None = None
    """Times as fractions of the cycle, separated by commas, instead of --frames."""
    plane: str | None = None
    """Plane with this normal NX,NY,NZ (world), through --centre or the centre of the region."""
    view: str | None = None
    """Named view of the anatomy, e.g. 4ch or 2ch, located from the subject's own segmentation."""
    centre: str | None = None
    """Point X,Y,Z in world mm on the plane."""
    size: float | None = None
    """Side length of the plane in mm, by default 160."""
    points: Path | None = None
    """CSV file with the columns x,y,z (world mm) and optionally t (fraction of the cycle)."""
    probabilities: bool = False
    """Also write the probability of each class."""
    samples: int = 0
    """Average over this many samples instead of using the best estimate alone. A latent prior samples its
    posterior; an image-conditioned prior (preset image) answers from random subsets of the slices."""
    std: bool = False
    """Also write the standard deviation of each class's probability over the samples (--samples, by default
    16)."""
    memory_mb: float = 512
    """Working memory for queries in MiB."""
    device: str = "cpu"
    """Device to run networks on: cpu, cuda or cuda:NUMBER."""
    threads: int | None = None
    """CPU threads; by default the number of idle cores."""
    overwrite: bool = False
    """Replace existing files even if nisf did not write them."""

    def run(self) -> int:
        refuse_missing([self.subject, self.points])
        if self.prior is not None:
            refuse_missing_prior(self.prior)

        from nisf.device import named_device, use_threads
        from nisf.errors import BadFileError
        from nisf.io.writers import check_format
        from nisf.kinds.load import read_subject
        from nisf.outputs import Made, recorded

        ending = self.ending()
        working_memory(self.memory_mb)
        device = named_device(self.device)
        use_threads(self.threads)
        subject = read_subject(self.subject, self.prior)
        subject = replace(subject, prior=subject.prior.to(device))
        if self.points is None and not subject.stacks:
            raise BadFileError(f"{self.subject}: has no measured stack, so no grid either; give --points")
        folder, stem = self.output.parent, self.output.name.removesuffix(ending)
        if ending in IMAGES:
            form = check_format(ending.removeprefix("."), subject.prior.config.field.channels)
            planned = [f"{stem}_seg.{form}", f"{stem}_image.{form}"]
        else:
            planned = [self.output.name]
        made = Made(prior=subject.prior.fingerprint)
        what = f"render {ending}"  # keeps other formats of the same name
        with recorded(folder, stem, what, made, planned=planned, overwrite=self.overwrite) as part:
            if self.points is not None:
                self.answer_points(subject, self.points)
            else:
                self.answer_grid(subject, picture=ending == ".png")
        for remark in part.remarks():
            print(remark)
        return 0

    @property
    def draws(self) -> int:
        """Number of draws to average over; 0 for the best answer only."""
        return self.samples or (DRAWS if self.std else 0)

    def ending(self) -> str:
        """Format of the output, one of `ENDINGS`.

        Raises:
            BadSettingError: it is not supported, or the options contradict each other.
        """
        from nisf.errors import BadSettingError

        ending = next((end for end in ENDINGS if self.output.name.endswith(end)), None)
        if ending is None:
            raise BadSettingError(
                f"{self.output}: name the output {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
            )
        if (ending == ".csv") != (self.points is not None):
            raise BadSettingError(f"{self.output}: a .csv output and --points go together")
        if self.samples < 0 or self.samples == 1:
            raise BadSettingError(f"--samples {self.samples}: give at least 2 draws, or leave it out")
        self.refuse_unused()
        return ending

    def refuse_unused(self) -> None:
        """Reject options that other options would silently override.

        Raises:
            BadSettingError: there is one, or the side of a plane is not a positive number.
        """
        from nisf.errors import BadSettingError

        grid = ("spacing", "frames", "time", "plane", "view", "centre", "size")
        given = [f"--{name}" for name in grid if getattr(self, name) is not None]
        if self.points is not None and given:
            raise BadSettingError(f"{given[0]}: applies to grids and planes, not to --points; leave it out")
        if self.frames is not None and self.time is not None:
            raise BadSettingError("--frames and --time: give one of them")
        if self.view is not None and (self.plane is not None or self.centre is not None):
            raise BadSettingError("--view: defines its own position; leave --plane and --centre out")
        if self.plane is None and self.centre is not None:
            raise BadSettingError("--centre: the point of a plane; give --plane, or leave it out")
        if self.size is not None and self.plane is None and self.view is None:
            raise BadSettingError("--size: the side of a plane; give --plane or --view, or leave it out")
        if not 0 < self.side < math.inf:
            raise BadSettingError(f"--size {self.side:g}: give a positive number of mm")

    @property
    def side(self) -> float:
        """Side length of the plane, mm."""
        return SIDE_MM if self.size is None else self.size

    def answer_grid(self, subject: Subject, *, picture: bool) -> None:
        """Answer on the requested grid or plane, and write a picture or image files.

        Raises:
            BadSettingError: an option is invalid, or a picture would show more than one plane.
            CannotFitError: draws are requested, but the subject has no posterior.
        """
        from nisf.errors import BadSettingError

        grid, own = self.grid(subject)
        if picture and grid.shape[2] != 1:
            raise BadSettingError(f"{self.output}: a picture shows one plane; give --plane or --view")
        rendering = subject.render(
            None if own else grid,
            probabilities=self.probabilities,
            samples=self.draws,
            memory_mb=self.memory_mb,
        )
        if picture:
            from nisf.picture import plane_picture

            plane_picture(rendering, subject.prior.anatomy, self.output)
            print(f"wrote {self.output}")
        else:
            self.write_volumes(subject, rendering, own)
        if self.plane is not None and not subject.region.contains(grid.points()).any():
            print(f"--plane {self.plane}: all of it {OUTSIDE}")

    def write_volumes(self, subject: Subject, rendering: Rendering, own: bool) -> None:
        """Write a rendering as image files, with the tables of their labels beside them."""
        from nisf.io.label_tables import write_label_tables
        from nisf.io.writers import header_not_copied, write_rendering

        folder, ending = self.output.parent, self.ending()
        stem, form = self.output.name.removesuffix(ending), ending.removeprefix(".")
        labels = subject.prior.anatomy.labels
        if not self.std:
            rendering = replace(rendering, deviation=None)
        write_label_tables(folder, subject.prior.anatomy, overwrite=self.overwrite)
        stack = subject.stacks[0]
        if own and (remark := header_not_copied(stack, form)):
            print(remark)
        files = write_rendering(folder, stem, rendering, labels, stack=stack, own=own, format=form)
        print("wrote " + ", ".join(map(str, files)))

    def grid(self, subject: Subject) -> tuple[Grid, bool]:
        """The requested grid, and whether it is the input's own.

        Raises:
            BadSettingError: an option is invalid.
        """
        from nisf.cli.parse import cycle_fractions, numbers
        from nisf.data.geometry import Grid
        from nisf.errors import BadSettingError

        grid = subject.stacks[0].grid
        own = not any((self.spacing, self.frames, self.time, self.plane, self.view))
        pixel = 1.0
        if self.spacing and (self.plane or self.view):
            pixel = numbers(self.spacing, 1, "--spacing", positive=True)[0]
        if self.view is not None:
            grid = self.named_plane(subject, self.view, pixel).at_times(grid.times)
        elif self.plane is not None:
            normal = numbers(self.plane, 3, "--plane")
            centre = numbers(self.centre, 3, "--centre") if self.centre else subject.region.centre()
            try:
                plane = Grid.plane(centre, normal, size_mm=(self.side, self.side), spacing_mm=pixel)
            except ValueError as error:
                raise BadSettingError(f"--plane {self.plane}: {error}") from error
            grid = plane.at_times(grid.times)
        elif self.spacing is not None:
            grid = grid.at_spacing(numbers(self.spacing, 3, "--spacing", positive=True))
        if self.frames is not None:
            if not 1 <= self.frames <= 10_000:
                raise BadSettingError(f"--frames {self.frames}: give a number from 1 to 10000")
            grid = grid.with_frames(self.frames)
        if self.time is not None:
            grid = grid.at_times(cycle_fractions(self.time, "--time"))
        return grid, own

    def named_plane(self, subject: Subject, name: str, pixel: float) -> Grid:
        """The plane of a view.

        Raises:
            NisfError: the anatomy has no such view, or its structures were not found.
        """
        from nisf.errors import BadSettingError
        from nisf.subject.views import view_plane

        views = subject.prior.anatomy.views
        if name not in views:
            have = f"it has {', '.join(views)}" if views else "it has none"
            raise BadSettingError(f"--view {name}: the anatomy has no such view; {have}")
        return view_plane(subject, views[name], size_mm=self.side, spacing_mm=pixel, memory_mb=self.memory_mb)

    def answer_points(self, subject: Subject, path: Path) -> None:
        """Read points from a CSV, and write the answers to another.

        Raises:
            BadFileError: the CSV lacks a column or has cells that are not numbers.
            CannotFitError: draws are requested, but the subject has no posterior.
        """
        import numpy as np

        from nisf.cli.point_tables import read_points, write_answers

        points = read_points(path)
        position, time = points[:, :3], points[:, 3]
        deviation = None
        if self.draws:
            image, probability, deviation = subject.query_posterior(
                position, time, samples=self.draws, memory_mb=self.memory_mb
            )
        else:
            image, probability = subject.query(position, time, memory_mb=self.memory_mb)
        labels = subject.prior.anatomy.labels
        write_answers(self.output, points, image, probability, deviation if self.std else None, labels)
        outside = int(np.count_nonzero(~subject.region.contains(position)))
        where = f", {outside} of them {OUTSIDE}" if outside else ""
        print(f"wrote {self.output}: {len(points)} points{where}")
