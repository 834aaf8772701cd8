"""``nisf train``: a prior from a cohort."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Train:
    """Train a prior over a population.

    Validation cases choose how long new subjects are fitted; without --validation every fifth case is taken.
    """

    cohort: Annotated[Positional[Path], arg(metavar="COHORT")]
    """Folder of the training cohort, or a manifest CSV."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """Folder of the prior."""
    preset: str | None = None
    """Settings to start from: image (sees the slices; most accurate; if none is given), cpu (a latent per
    subject, half an hour on two cores) or paper (the paper's numbers)."""
    start: Path | None = None
    """Go on from this prior's weights, region and settings, with these cases: a folder or a model's name."""
    validation: str = "every-5th"
    """every-Nth case, a text file with one case name a line, another cohort's folder, or none."""
    set: Annotated[tuple[str, ...], arg(aliases=["-s"])] = ()
    """Other settings, e.g. train.steps=3000 field.activation=sine; see docs/reference.md."""
    anatomy: str | None = None
    """Structures: a name, or a JSON file; cardiac-sax if none is given, or those of --start."""
    layout: str = "auto"
    """How the cases lie in their folder; found out if auto."""
    licence: str | None = None
    """Licence of the prior, for its card; data licences often forbid commercial use. That of --start if not
    given."""
    cache: Path | None = None
    """Folder for decompressed cases; .cache in the prior's folder if not given."""
    resume: bool = False
    """Go on from the checkpoint in the output folder."""
    device: str = "cpu"
    """Where networks run: cpu, cuda or cuda:NUMBER."""
    workers: int | None = None
    """Processes that draw augmented samples ahead of the network; if not given, none with --device cpu, one a
    core but one, 8 at most, with cuda."""
    tensorboard: bool = False
    """Write TensorBoard events too (pip install nisf[tensorboard])."""

    def run(self) -> int:
        from nisf.cli.cases import read_cases, split
        from nisf.cli.progress import TrainingProgress
        from nisf.config.overrides import override
        from nisf.config.presets import preset
        from nisf.data.anatomy import load_anatomy
        from nisf.device import device_of
        from nisf.errors import NisfError
        from nisf.files import check_writable
        from nisf.io.readers import open_cohort
        from nisf.prior.prior import load_prior
        from nisf.training.train import continued, train

        if self.start and (self.preset or self.anatomy):
            raise NisfError("--start: brings its settings and structures; leave --preset and --anatomy out")
        device = device_of(self.device)
        if self.workers is not None and self.workers < 0:
            raise NisfError(f"--workers {self.workers}: give 0 or more")
        start = load_prior(self.start) if self.start else None
        anatomy = start.anatomy if start else load_anatomy(self.anatomy or "cardiac-sax")
        config = override(continued(start) if start else preset(self.preset or "image"), self.set)
        cohort = open_cohort(self.cohort, anatomy, self.layout)
        check_writable(self.output)
        cache = self.cache or self.output / ".cache"
        training, held = split(cohort, self.validation, anatomy, self.layout)
        cases, failed = read_cases(training, cohort, anatomy, cache)
        validation, also_failed = read_cases(held, cohort, anatomy, cache)
        failed |= also_failed
        for sentence in failed.values():
            print(f"left out: {sentence}", file=sys.stderr)
        print(f"{len(cases)} training cases, {len(validation)} validation cases; preset {config.preset}")
        with (
            TrainingProgress(config.train.steps) as progress,
            _events(self.output, self.tensorboard) as events,
        ):

            def report(record: Mapping[str, Any]) -> None:
                progress.report(record)
                events(record)

            train(
                cases,
                validation,
                anatomy,
                config,
                self.output,
                start=start,
                resume=self.resume,
                report=report,
                say=progress.say,
                card={"licence": self.licence} if self.licence else {},
                device=device,
                workers=self.workers,
            )
        print(f"prior written to {self.output}")
        return 1 if failed else 0


class _events:  # noqa: N801 - used like a function
    """TensorBoard events of the log's records; does nothing if not wanted."""

    def __init__(self, folder: Path, wanted: bool) -> None:
        self.writer = None
        if wanted:
            from nisf.errors import NisfError

            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError as error:
                raise NisfError("--tensorboard: not installed; pip install 'nisf[tensorboard]'") from error
            self.writer = SummaryWriter(str(folder / "tensorboard"))

    def __enter__(self) -> _events:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer:
            self.writer.close()

    def __call__(self, record: Mapping[str, Any]) -> None:
        if not self.writer:
            return
        for name, value in record.items():
            if name == "validation":
                for label, found in value["dice"].items():
                    # By what the field was given, or after ever more fitting steps.
                    kinds = isinstance(found, dict)
                    named = {f"{label}/{k}": v for k, v in found.items()} if kinds else {label: max(found)}
                    for tag, dice in named.items():
                        self.writer.add_scalar(f"validation/{tag}", dice, record["step"])
            elif name != "step":
                self.writer.add_scalar(f"training/{name}", value, record["step"])
