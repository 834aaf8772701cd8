"""``nisf render``: ask a fitted subject again, without fitting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from nisf.data.geometry import Grid
    from nisf.subject.subject import Subject


@dataclass(frozen=True)
class Render:
    """Answer any grid, plane, time or list of points from a fitted subject (NAME.nisf).

    The output's name says what is written: NAME.nii.gz gives NAME_seg.nii.gz and NAME_image.nii.gz;
    .png gives a picture of a plane; .csv with --points gives a row per point.
    """

    fitted: Annotated[Positional[Path], arg(metavar="FITTED")]
    """Subject subject, as nisf segment writes it."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """File to write: .nii.gz, .png or .csv."""
    prior: Path | None = None
    """Folder of its prior, if it is not where it was."""
    spacing: str | None = None
    """Spacing X,Y,Z in mm along the stack's axes; for a plane, one number."""
    frames: int | None = None
    """Number of equally spaced frames of the cycle."""
    time: str | None = None
    """Times as fractions of the cycle, separated by commas, instead of --frames."""
    plane: str | None = None
    """A plane by its normal NX,NY,NZ (world), through the region's centre or --centre."""
    view: str | None = None
    """A plane by its name in the anatomy, e.g. 4ch or 2ch, found from the fitted subject's segmentation."""
    centre: str | None = None
    """Point X,Y,Z in world mm that the plane goes through."""
    size: float = 160.0
    """Side of the plane, mm."""
    points: Path | None = None
    """CSV with the columns x,y,z (world mm) and, if wanted, t (fraction of the cycle)."""
    probabilities: bool = False
    """Write the probability of each class too."""
    samples: int = 0
    """Average over this many draws from the fit's posterior, instead of its best answer alone."""
    std: bool = False
    """With --samples: write the standard deviation of each class's probability over the draws too."""
    memory_mb: float = 512
    """Working memory for queries, MiB."""
    device: str = "cpu"
    """Where networks run: cpu, cuda or cuda:NUMBER."""

    def run(self) -> int:
        from nisf.device import named_device
        from nisf.errors import BadSettingError
        from nisf.io.writers import write_labels_json, write_rendering
        from nisf.kinds.load import read_subject

        name = self.output.name
        kind = next((end for end in (".nii.gz", ".png", ".csv") if name.endswith(end)), None)
        if kind is None:
            raise BadSettingError(f"{self.output}: name the output .nii.gz, .png or .csv")
        if (kind == ".csv") != (self.points is not None):
            raise BadSettingError(f"{self.output}: a .csv output and --points go together")
        if self.samples < 0 or self.samples == 1 or (self.std and not self.samples):
            raise BadSettingError(
                f"--samples {self.samples}: give at least 2 draws, or neither --samples nor --std"
            )
        device = named_device(self.device)
        fitted = read_subject(self.fitted, self.prior)
        fitted = replace(fitted, prior=fitted.prior.to(device))
        if self.points is not None:
            self.answer_points(fitted, self.points)
            return 0
        grid, own = self.grid(fitted)
        if kind == ".png" and grid.shape[2] != 1:
            raise BadSettingError(f"{self.output}: a picture shows one plane; give --plane")
        rendering = fitted.render(
            None if own else grid,
            probabilities=self.probabilities,
            samples=self.samples,
            memory_mb=self.memory_mb,
        )
        if not self.std:
            rendering = replace(rendering, deviation=None)
        if kind == ".png":
            from nisf.picture import plane_picture

            plane_picture(rendering, fitted.prior.anatomy, self.output)
            print(f"wrote {self.output}")
            return 0
        stem = name.removesuffix(".nii.gz")
        labels = fitted.prior.anatomy.labels
        write_labels_json(self.output.parent, labels)
        files = write_rendering(self.output.parent, stem, rendering, labels, stack=fitted.stacks[0], own=own)
        print("wrote " + ", ".join(map(str, files)))
        return 0

    def grid(self, fitted: Subject) -> tuple[Grid, bool]:
        """The grid asked for, and whether it is the input's own.

        Raises:
            BadSettingError: an option does not parse.
        """
        from nisf.cli.parse import numbers
        from nisf.data.geometry import Grid
        from nisf.errors import BadSettingError

        grid = fitted.stacks[0].grid
        own = not any((self.spacing, self.frames, self.time, self.plane, self.view))
        side = 1.0
        if self.spacing and (self.plane or self.view):
            side = numbers(self.spacing, 1, "--spacing", positive=True)[0]
        if self.view is not None:
            grid = self.named_plane(fitted, self.view, side).at_times(grid.times)
        elif self.plane is not None:
            normal = numbers(self.plane, 3, "--plane")
            centre = numbers(self.centre, 3, "--centre") if self.centre else fitted.region.centre()
            try:
                plane = Grid.plane(centre, normal, size_mm=(self.size, self.size), spacing_mm=side)
            except ValueError as error:
                raise BadSettingError(f"--plane {self.plane}: {error}") from error
            grid = plane.at_times(grid.times)
        elif self.spacing is not None:
            grid = grid.at_spacing(numbers(self.spacing, 3, "--spacing", positive=True))
        if self.frames is not None:
            if self.frames < 1:
                raise BadSettingError(f"--frames {self.frames}: give a number of at least 1")
            grid = grid.with_frames(self.frames)
        if self.time is not None:
            grid = grid.at_times(numbers(self.time, len(self.time.split(",")), "--time"))
        return grid, own

    def named_plane(self, fitted: Subject, name: str, side: float) -> Grid:
        """The plane of a view.

        Raises:
            NisfError: the anatomy has no such view, or its structures are not found.
        """
        from nisf.errors import BadSettingError
        from nisf.subject.views import view_plane

        views = fitted.prior.anatomy.views
        if self.plane is not None or self.centre is not None:
            raise BadSettingError("--view: finds its own place; leave --plane and --centre out")
        if name not in views:
            have = f"it has {', '.join(views)}" if views else "it has none"
            raise BadSettingError(f"--view {name}: the anatomy has no such view; {have}")
        return view_plane(fitted, views[name], size_mm=self.size, spacing_mm=side)

    def answer_points(self, fitted: Subject, path: Path) -> None:
        """Read points from a CSV, write the answers to another.

        Raises:
            BadFileError: the CSV lacks a column or holds something else than numbers.
        """
        import csv

        import numpy as np

        from nisf.errors import BadFileError
        from nisf.files import replacing
        from nisf.io.writers import file_word

        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            table = np.array([[float(r[c] if c != "t" else r.get("t") or 0) for c in "xyzt"] for r in rows])
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise BadFileError(
                f"{path}: needs the columns x,y,z (mm) and perhaps t, all numbers ({error})"
            ) from error
        if not len(table) or not np.isfinite(table).all():
            raise BadFileError(f"{path}: holds no points, or coordinates that are not finite")
        deviation = None
        if self.samples:
            image, probability, deviation = fitted.query_posterior(
                table[:, :3], table[:, 3], samples=self.samples, memory_mb=self.memory_mb
            )
        else:
            image, probability = fitted.query(table[:, :3], table[:, 3], memory_mb=self.memory_mb)
        if deviation is None or not self.std:
            deviation = np.zeros((len(table), 0))
        labels = fitted.prior.anatomy.labels
        with replacing(self.output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            channels = (
                [f"intensity_{c}" for c in range(image.shape[1])] if image.shape[1] > 1 else ["intensity"]
            )
            words = [file_word(label) for label in labels]
            spread = [f"std_{word}" for word in words] if deviation.shape[1] else []
            writer.writerow([*"xyzt", *channels, "label", *(f"p_{word}" for word in words), *spread])
            for row, values, shares, wide in zip(table, image, probability, deviation, strict=True):
                label = labels[int(shares.argmax())]
                numbers_ = [f"{v:.6g}" for v in (*row, *values)]
                writer.writerow([*numbers_, label, *(f"{p:.4f}" for p in (*shares, *wide))])
        print(f"wrote {self.output}: {len(table)} points")
