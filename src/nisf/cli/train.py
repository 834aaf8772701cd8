"""``nisf train``: train a prior on a cohort."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from nisf.cli.parse import refuse_missing, refuse_missing_prior

if TYPE_CHECKING:
    import torch

    from nisf.config.schema import Config
    from nisf.prior.prior import Prior


@dataclass(frozen=True)
class Train:
    """Train a prior on a cohort of labelled cases.

    Every fifth case is for validation by default. These cases are scored, and determine what the training
    cases cannot: how many steps a new subject is fitted for, or, with the preset image, how certain a section
    must be. If a case cannot be read, training goes on without it, and the exit status is 1.
    """

    cohort: Annotated[Positional[Path], arg(metavar="COHORT")]
    """Folder of the training cohort, or a manifest CSV."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """Folder to write the prior to."""
    preset: str | None = None
    """Base settings: image (conditioned on the slices; the most accurate, and the default), cpu (one latent
    vector per subject; half an hour on two cores), demo (small and fast) or paper (the paper's numbers)."""
    start: Path | None = None
    """Prior to continue from: its weights, region and settings are the starting point. A folder or a model's
    name."""
    validation: str = "every-5th"
    """Validation cases: every-Nth (e.g. every-5th), a text file with one case name per line, the folder of
    another cohort, or none."""
    set: Annotated[tuple[str, ...], arg(aliases=["-s"], metavar="NAME=VALUE ...")] = ()
    """Settings to change, e.g. train.steps=3000 train.seed=1; 'nisf settings' lists them all."""
    anatomy: str | None = None
    """Anatomy: a name or a JSON file; by default cardiac-sax, or that of --start or of the run
    to resume."""
    layout: str = "auto"
    """Folder layout of the cases; auto detects it."""
    licence: str | None = None
    """Licence to record in the prior's card; many data licences forbid commercial use. By default that of
    --start."""
    cache: Path | None = None
    """Folder for decompressed cases; by default .cache in the prior's folder."""
    resume: bool = False
    """Resume from the checkpoint in the output folder, with its settings and anatomy."""
    device: str = "cpu"
    """Device to run networks on: cpu, cuda or cuda:NUMBER."""
    threads: int | None = None
    """CPU threads; by default the number of idle cores."""
    workers: int | None = None
    """Processes that prepare augmented samples in advance; by default none on the CPU, and on CUDA one per
    core except one, at most 8."""
    tensorboard: bool = False
    """Also write TensorBoard events (needs nisf[tensorboard])."""

    def run(self) -> int:
        self.refuse()

        from nisf.device import named_device, use_threads
        from nisf.optimisation.ranks import joined, leave

        use_threads(self.threads)
        with joined(named_device(self.device)) as device:
            status = self.train(device)
        return leave(status)

    def train(self, device: torch.device) -> int:
        """Train and return the exit status; of several ranks, only the first prints.

        Raises:
            NisfError: training is not possible; the message says why.
        """
        from nisf.cli.cases import fill_cache, split, stored
        from nisf.cli.progress import TrainingProgress
        from nisf.config.overrides import override
        from nisf.files import check_writable
        from nisf.io.readers import open_cohort
        from nisf.kinds.load import load_prior
        from nisf.optimisation.ranks import is_first
        from nisf.training.run_anatomy import anatomy_to_train
        from nisf.training.train import TrainOptions, train

        start = load_prior(self.start) if self.start else None
        run = self.output if self.resume else None
        anatomy = start.anatomy if start else anatomy_to_train(self.anatomy, run)
        config = override(self.base(start), self.set)
        refuse_unused(config, self.set)
        cohort = open_cohort(self.cohort, anatomy, self.layout)
        check_writable(self.output)
        cache = self.cache or self.output / ".cache"
        training, validated = split(cohort, self.validation, anatomy, self.layout, cache)
        fill_cache(training, validated)
        cases, validation = stored(training), stored(validated)
        if is_first():
            _tell_of_cases([*training.lines(), *validated.lines()], len(cases), len(validation), config)
        with (
            TrainingProgress(config.train.steps, config.train.minutes, silent=not is_first()) as progress,
            _events(self.output, self.tensorboard and is_first()) as events,
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
                TrainOptions(
                    start=start,
                    resume=self.resume,
                    report=report,
                    say=progress.say,
                    progress=progress.prepare,
                    card={"licence": self.licence} if self.licence else {},
                    device=device,
                    workers=self.workers,
                ),
            )
        if is_first():
            print(f"prior written to {self.output}")
        return 1 if training.errors or validated.errors else 0

    def refuse(self) -> None:
        """Reject invalid options before slow imports.

        Raises:
            NisfError: an option is invalid; the message says which.
        """
        from nisf.errors import BadSettingError

        refuse_missing([self.cohort])
        if self.start and (self.preset or self.anatomy):
            raise BadSettingError(
                "--start: brings its settings and structures; leave --preset and --anatomy out"
            )
        if self.start is not None:
            refuse_missing_prior(self.start)
        if self.workers is not None and self.workers < 0:
            raise BadSettingError(f"--workers {self.workers}: give 0 or more")

    def base(self, start: Prior | None) -> Config:
        """The settings before those of --set: of the resumed run, of the start, or of the preset.

        Raises:
            NisfError: there is no such preset, or the checkpoint is damaged.
        """
        from nisf.config.presets import preset
        from nisf.optimisation.checkpoint import CHECKPOINT, stored_settings
        from nisf.optimisation.ranks import is_first

        if self.resume:
            path = self.output / CHECKPOINT
            if path.is_file():
                return preset(self.preset) if self.preset else stored_settings(path)
            if is_first():
                print(f"{self.output}: nothing to resume; training begins", flush=True)
        return start.continued() if start else preset(self.preset or "image")


def refuse_unused(config: Config, assignments: Sequence[str]) -> None:
    """Reject settings that do not apply to the kind of field that is trained.

    Raises:
        BadSettingError: there are such settings; the message names all of them.
    """
    from nisf.config.schema import unused
    from nisf.errors import BadSettingError

    names = [text.partition("=")[0] for text in assignments]
    if strange := [name for name in names if name in unused(config.field.kind)]:
        raise BadSettingError(
            f"--set {', '.join(strange)}: does not apply to a field of the kind '{config.field.kind}'; "
            "leave it out, or choose another --preset ('nisf settings' shows which settings each preset has)"
        )


class _events:  # noqa: N801 - used like a function
    """TensorBoard events from the log's records; does nothing if not wanted."""

    def __init__(self, folder: Path, wanted: bool) -> None:
        self.writer = None
        if wanted:
            from nisf.errors import BadSettingError

            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError as error:
                raise BadSettingError(
                    "--tensorboard: not installed; pip install 'nisf[tensorboard]'"
                ) from error
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
                    # Labelled by what the field was given, or by the number of fitting steps.
                    kinds = isinstance(found, dict)
                    named = {f"{label}/{k}": v for k, v in found.items()} if kinds else {label: max(found)}
                    for tag, dice in named.items():
                        self.writer.add_scalar(f"validation/{tag}", dice, record["step"])
            elif name != "step":
                self.writer.add_scalar(f"training/{name}", value, record["step"])


def _tell_of_cases(lines: Sequence[str], training: int, validation: int, config: Config) -> None:
    """Print what was said while the cases were read, each sentence once, and their numbers."""
    from nisf.data.wording import counted

    for line in dict.fromkeys(lines):  # training and validation are often of the same cohort
        print(line, file=sys.stderr)
    numbers = f"{counted(training, 'training case')}, {counted(validation, 'validation case')}"
    print(f"{numbers}; preset {config.preset}")
