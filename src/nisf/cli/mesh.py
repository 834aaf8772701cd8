"""``nisf mesh``: surfaces of a subject's structures."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from nisf.mesh.surface import Surface
    from nisf.subject.subject import Subject


@dataclass(frozen=True)
class Mesh:
    """Write watertight surfaces of a subject's structures (NAME.nisf) for other programs.

    The vertices lie on the decision surface of the field, not on a voxel grid. -o NAME.stl writes one file
    per structure, e.g. NAME_lv-blood-pool.stl; with several times NAME_lv-blood-pool_t00.stl and so on.
    Needs: pip install 'nisf[mesh]'.
    """

    subject: Annotated[Positional[Path], arg(metavar="SUBJECT")]
    """File of a subject, as nisf segment writes it."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """File to write; its ending sets the format: .stl, .ply, .obj or .vtp."""
    prior: Path | None = None
    """Folder of the prior, if it has moved."""
    structures: str | None = None
    """Structures or unions, separated by commas, e.g. "LV blood pool,LV epicardium"; by default all."""
    spacing: float | None = None
    """Spacing in mm of the sampling grid; smaller gives more triangles. By default it depends on the size of
    the region."""
    frames: int | None = None
    """Number of equally spaced times of the cycle."""
    time: str | None = None
    """Times as fractions of the cycle, separated by commas, instead of --frames. By default the first
    measured time."""
    same_triangles: bool = False
    """Use the same triangles at all times: the mesh of the first time is deformed through the cycle."""
    space: Literal["RAS", "LPS"] = "RAS"
    """World coordinates in mm: RAS as in NIfTI, or LPS as in DICOM and ITK. Noted in the files."""
    memory_mb: float = 512
    """Working memory for queries in MiB."""
    device: str = "cpu"
    """Device to run networks on: cpu, cuda or cuda:NUMBER."""
    overwrite: bool = False
    """Replace existing files even if nisf did not write them."""

    def run(self) -> int:
        from nisf.cli.parse import words
        from nisf.device import named_device
        from nisf.errors import BadSettingError
        from nisf.kinds.load import read_subject
        from nisf.mesh.extraction import meshable
        from nisf.mesh.files import WRITERS, names_of, write_series, write_surface
        from nisf.mesh.series import SeriesOptions, series
        from nisf.outputs.names import file_words

        ending = self.output.suffix.lower()
        if ending not in WRITERS:
            raise BadSettingError(f"{self.output}: name the output {', '.join(WRITERS)}")
        device = named_device(self.device)
        subject = read_subject(self.subject, self.prior)
        subject = replace(subject, prior=subject.prior.to(device))
        times = self.times(subject)
        chosen = None if self.structures is None else tuple(words(self.structures, "--structures"))
        options = SeriesOptions(chosen, self.spacing, self.same_triangles, self.memory_mb)
        # Structures may be absent at some times: names do not depend on what is found.
        asked = list(chosen or meshable(subject))
        rows = dict(
            zip(asked, names_of(self.output.stem, ending, file_words(asked), len(times)), strict=True)
        )
        written: dict[str, dict[float, Path]] = {}
        for k, found in series(subject, times, options):
            for name, surface in found.items():
                path = self.output.parent / rows[name][k]
                with self.recorded(path, subject):
                    write_surface(path, surface, space=self.space)
                written.setdefault(name, {})[times[k]] = path
                print(f"wrote {path}: {described(surface)}", flush=True)
        if ending == ".vtp" and len(times) > 1:
            for files in written.values():
                first = next(iter(files.values()))
                stem = first.name.rpartition("_t")[0]
                path = first.with_name(f"{stem}.vtp.series")
                with self.recorded(path, subject):
                    write_series(path, dict(sorted(files.items())))
        return 0

    def recorded(self, path: Path, subject: Subject) -> AbstractContextManager[object]:
        """Context in which a file is written, without replacing files that nisf did not write."""
        from nisf.outputs import Made, recorded_file

        made = Made(prior=subject.prior.fingerprint)
        return recorded_file(path, "mesh", made=made, overwrite=self.overwrite)

    def times(self, subject: Subject) -> list[float]:
        """The requested times.

        Raises:
            BadSettingError: an option is invalid, or both are given.
        """
        from nisf.cli.parse import cycle_fractions
        from nisf.data.geometry import cycle_times
        from nisf.errors import BadSettingError

        if self.frames is not None and self.time is not None:
            raise BadSettingError("--frames and --time: give one of them")
        if self.frames is not None:
            if self.frames < 1:
                raise BadSettingError(f"--frames {self.frames}: give a number of at least 1")
            return cycle_times(self.frames).tolist()
        if self.time is not None:
            return cycle_fractions(self.time, "--time")
        return [float(subject.stacks[0].grid.times[0]) if subject.stacks else 0.0]


def described(surface: Surface) -> str:
    """Volume, area and size of a surface in one line, and its flaws, if any."""
    from nisf.mesh.crossings import crossing_triangles

    said = f"{surface.volume_ml:.1f} mL, {surface.area_cm2:.1f} cm2, {len(surface.faces)} triangles"
    crossing = len(crossing_triangles(surface))
    return said if not crossing else f"{said}, of which {crossing} intersect others"
