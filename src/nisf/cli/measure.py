"""``nisf measure``: measure segmented cases again, without fitting."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from nisf.cli.parse import refuse_other_than_folder

if TYPE_CHECKING:
    from nisf.measures.case import MeasureOptions
    from nisf.measures.folder import Tables


@dataclass(frozen=True)
class Measure:
    """Measure segmented cases again from their .nisf files and rewrite measures.csv, curves.csv and wall.csv.

    Nothing is fitted. Phases and body surface areas that are given here are kept when the case is measured
    again. If a case cannot be measured, the others still are, and the exit status is 1.
    """

    folder: Annotated[Positional[Path], arg(metavar="OUT")]
    """Output folder of nisf segment."""
    prior: str | None = None
    """Prior or model that the cases were segmented with; by default the one that each file names."""
    only: Path | None = None
    """Text file with the names of the cases to measure, one per line."""
    ed: int | None = None
    """Frame of end-diastole, counted from 0; by default taken from the files or the volumes."""
    es: int | None = None
    """Frame of end-systole, as for --ed."""
    bsa: float | None = None
    """Body surface area in m2, for indexed measures. For a single case."""
    height: float | None = None
    """Height in cm; with --weight gives the body surface area (Mosteller). For a single case."""
    weight: float | None = None
    """Weight in kg."""
    body: Path | None = None
    """CSV file with one row per case and the columns case and bsa_m2, or case, height_cm and weight_kg."""
    forget: bool = False
    """Forget the phases and body surface areas that were given to an earlier run."""
    parquet: bool = False
    """Also write measures.parquet (needs nisf[parquet])."""
    memory_mb: float = 512
    """Working memory for queries in MiB."""
    device: str = "cpu"
    """Device to run networks on: cpu, cuda or cuda:NUMBER."""
    overwrite: bool = False
    """Replace existing files even if nisf did not write them."""

    def run(self) -> int:
        refuse_other_than_folder(self.folder)

        from nisf.cli.cohort import left_out_of
        from nisf.data.wording import counted
        from nisf.errors import BadFileError, NisfError, told
        from nisf.measures.folder import Tables
        from nisf.segmentation.measures import edited_segmentation

        paths = sorted(self.folder.glob("*.nisf"))
        if not paths:
            raise BadFileError(f"{self.folder}: no .nisf file in it; give the folder that nisf segment wrote")
        paths = self.chosen(paths)
        bodies = self.bodies([path.stem for path in paths])
        failed = []
        with Tables(self.folder, parquet=self.parquet, overwrite=self.overwrite) as tables:
            for number, path in enumerate(paths, start=1):
                try:
                    kept = self.measure(path, bodies.get(path.stem), tables)
                    told_of = f", with {kept} as given before" if kept else ""
                    print(f"[{number}/{len(paths)}] {path.stem}: measured{told_of}", flush=True)
                    if edited := edited_segmentation(self.folder, path.stem):
                        print(f"note: {edited}", file=sys.stderr)
                except NisfError as error:
                    failed.append(path.stem)
                    print(f"[{number}/{len(paths)}] {path.stem}: failed: {told(error)}", file=sys.stderr)
        done = f"{len(paths) - len(failed)} of {counted(len(paths), 'case')}"
        print(f"{done} measured: {self.folder / 'measures.csv'}")
        if failed:
            print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1 if left_out_of(tables) or failed else 0

    def chosen(self, paths: list[Path]) -> list[Path]:
        """The files of the requested cases.

        Raises:
            NisfError: a case does not exist, or an option for one case is given for several.
        """
        from nisf.errors import BadSettingError
        from nisf.io.readers import names_in

        if self.only is not None:
            names = names_in(self.only, [path.stem for path in paths])
            paths = [path for path in paths if path.stem in names]
        single = {"--bsa": self.bsa, "--height": self.height, "--weight": self.weight}
        given = [flag for flag, value in single.items() if value is not None]
        if given and len(paths) > 1:
            raise BadSettingError(
                f"{given[0]}: is for one person, but {self.folder} has {len(paths)} cases; give --body with "
                "a table, or --only"
            )
        return paths

    def bodies(self, names: list[str]) -> dict[str, float]:
        """Body surface area in m2 by case, for those for which it is given.

        Raises:
            NisfError: a value is impossible, or the table cannot be read.
        """
        from nisf.errors import BadSettingError
        from nisf.measures.body import checked_m2, read_bodies, surface_of

        ways = [
            self.body is not None,
            self.bsa is not None,
            self.height is not None or self.weight is not None,
        ]
        if sum(ways) > 1:
            raise BadSettingError("give one of --body, --bsa, and --height with --weight")
        if self.body is not None:
            return self.known(read_bodies(self.body))
        if self.bsa is not None:
            return {names[0]: checked_m2(self.bsa, "--bsa")}
        if self.height is None and self.weight is None:
            return {}
        if self.height is None or self.weight is None:
            raise BadSettingError("--height and --weight go together")
        return {names[0]: surface_of(self.height, self.weight, "--height and --weight")}

    def known(self, bodies: dict[str, float]) -> dict[str, float]:
        """The same table; cases in it that the folder does not have are named."""
        from nisf.data.wording import such

        strange = [name for name in bodies if not (self.folder / f"{name}.nisf").is_file()]
        if strange:
            count = such(len(strange), "case")
            print(f"note: {self.body}: {strange[0]} is not a case in {self.folder}{count}", file=sys.stderr)
        return bodies

    def settings(self, given_before: MeasureOptions, body_m2: float | None) -> tuple[MeasureOptions, str]:
        """The user's settings for the measures of a case, and those of an earlier run among them in words."""
        from nisf.measures.case import MeasureOptions
        from nisf.segmentation.measures import settings_in_words

        frames = {name: f for name, f in {"ED": self.ed, "ES": self.es}.items() if f is not None}
        kept = MeasureOptions() if self.forget else given_before
        kept = MeasureOptions(
            {name: frame for name, frame in kept.frames.items() if name not in frames},
            kept.body_m2 if body_m2 is None else None,
        )
        body = kept.body_m2 if body_m2 is None else body_m2
        return MeasureOptions({**kept.frames, **frames}, body), settings_in_words(kept)

    def measure(self, path: Path, body_m2: float | None, tables: Tables) -> str:
        """Measure one case; returns the settings of an earlier run that were kept, in words.

        Raises:
            NisfError: its file cannot be read, or an option does not fit it.
        """
        from nisf.device import named_device
        from nisf.kinds.load import read_subject
        from nisf.segmentation.measures import kept_settings, measure, write_measures

        subject = read_subject(path, self.prior)
        subject = replace(subject, prior=subject.prior.to(named_device(self.device)))
        settings, kept = self.settings(kept_settings(self.folder, subject.name), body_m2)
        measures = measure(subject, settings, memory_mb=self.memory_mb)
        write_measures(self.folder, subject, measures, settings, overwrite=self.overwrite)
        tables.note()
        return kept
