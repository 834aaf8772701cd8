"""A study: one cohort, split once, and everything trained on it and computed from it, each only once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nisf.config.overrides import to_dict
from nisf.config.schema import Config
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.outline import content_of
from nisf.data.wording import first_few
from nisf.device import CPU
from nisf.errors import BadFileError, BadSettingError, CannotFitError
from nisf.files import check_writable, read_json, read_metadata, write_json
from nisf.io.readers import CaseFiles, CaseReader, open_cohort
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.load import load_prior
from nisf.optimisation.checkpoint import CHECKPOINT
from nisf.outputs import input_state, same_inputs
from nisf.paper.budget import Budget
from nisf.paper.unet import WEIGHTS
from nisf.prior.bundled import model_names
from nisf.prior.prior import Prior
from nisf.prior.stored import SPECIFICATION
from nisf.training.train import TrainOptions, train

TEST_EVERY, VALIDATION_EVERY = 5, 8
"""Every 5th case is a test subject; every 8th of the others is a validation subject."""


@dataclass(frozen=True)
class Variant:
    """A prior to train.

    Attributes:
        name: name of its folder.
        config: all settings.
        thin: thins out a training case; None leaves it whole.
        snapshots: steps at which a snapshot is kept.
    """

    name: str
    config: Config
    thin: Callable[[Case], Case] | None = None
    snapshots: tuple[int, ...] = ()


def at_phases(case: Case) -> Case:
    """The case with the frames of its named phases only (e.g. ED and ES of a cine); all if it names none.

    Args:
        case: slices of its reference stack only.
    """
    grid = case.stacks[0].grid
    frames = sorted({grid.nearest_frame(time) for time in case.phases.values()})
    labelled = {item.frame for item in case.labelled()}
    if not frames or len(frames) == len(grid.times) or not labelled & set(frames):
        return case
    stack = replace(case.stacks[0], grid=grid.at_times(grid.times[frames]))
    kept = (item for item in case.slices if item.frame in frames)
    slices = tuple(replace(item, frame=frames.index(item.frame)) for item in kept)
    return replace(case, stacks=(stack, *case.stacks[1:]), slices=slices)


class Study:
    """The subjects, the folder of results, and the priors of all experiments.

    Args:
        data: folder of the cohort.
        output: folder of the results; existing results are reused.
        anatomy: its structures.
        budget: sizes of the experiments.
        layout: layout of the cohort's folder.
        reuse: folder or model to use instead of a prior (``paper``, ``image``, ``unet``), by name.
        device: where priors and the U-Net are trained; subjects are fitted on the CPU.
        say: called with sentences about the progress.

    Raises:
        NisfError: the cohort cannot be read or is too small, or the output belongs to other subjects.
    """

    def __init__(
        self,
        data: str | Path,
        output: str | Path,
        anatomy: Anatomy,
        budget: Budget,
        *,
        layout: str = "auto",
        reuse: Mapping[str, Path] | None = None,
        device: torch.device = CPU,
        say: Callable[[str], None] = print,
    ) -> None:
        self.device = device
        self.output, self.anatomy, self.budget, self.say = check_writable(output), anatomy, budget, say
        self.reuse = dict(reuse or {})
        self._priors: dict[tuple[str, Config], Prior] = {}
        self._told: set[str] = set()
        self._contents: dict[Case, str] = {}
        self.cohort = open_cohort(data, anatomy, layout)
        cases = list(self.cohort.cases)
        tested = cases[TEST_EVERY - 1 :: TEST_EVERY]
        rest = [case for case in cases if case not in tested]
        # Starts in the middle of each eight, so that a cohort of ten has a validation subject too.
        first = VALIDATION_EVERY // 2 - 1
        self.files = {
            "test": tested[: budget.test],
            "validation": rest[first::VALIDATION_EVERY],
            "training": [c for i, c in enumerate(rest) if i % VALIDATION_EVERY != first],
        }
        if not tested or not self.files["validation"]:
            raise CannotFitError(
                f"{data}: {len(cases)} cases; training, validation and test subjects need at least 5"
            )
        self._check_subjects()

    def _check_subjects(self, *, claim: bool = False) -> None:
        """Check that existing results in the folder are from the same subjects, and these unchanged.

        Args:
            claim: whether to write the subjects' names and files for later runs, as soon as there can be
                results.

        Raises:
            BadFileError: the subjects are others, or their images or labels have changed.
        """
        path = self.output / "subjects.json"
        parts = ("training", "validation")
        names = {part: [case.name for case in self.files[part]] for part in parts}
        used = [case for part in parts for case in self.files[part]]
        if path.is_file():
            known = read_json(path)
            states = known.pop("files", None) if isinstance(known, dict) else None
            if known != names:
                raise BadFileError(
                    f"{path}: was made from other subjects; give another output folder", options=["output"]
                )
            pairs = zip(states or (), used, strict=False)
            if changed := [case.name for state, case in pairs if not same_inputs(state, case.paths())]:
                raise BadFileError(
                    f"{path}: was made from other images or labels of {first_few(changed)}; give another "
                    "output folder",
                    options=["output"],
                )
        elif claim:
            write_json(path, {**names, "files": [input_state(case.paths()) for case in used]})

    def _content(self, case: Case) -> str:
        """Digest of a case, computed once."""
        if case not in self._contents:
            self._contents[case] = content_of(case)
        return self._contents[case]

    def _whole(self, files: Sequence[CaseFiles]) -> list[Case]:
        self._check_subjects(claim=True)
        reader = CaseReader(self.cohort, self.anatomy, files, cache=self.output / ".cache")
        cases = [case for _, case in reader if isinstance(case, Case)]
        # Each partial read would repeat the cohort's problems and notes.
        for line in [line for line in reader.lines() if line not in self._told]:
            self._told.add(line)
            self.say(line)
        return cases

    def _read(self, files: Sequence[CaseFiles]) -> list[Case]:
        """Read the reference stacks; other stacks are used for comparison only."""
        return [case.keep(lambda item: item.stack == 0) for case in self._whole(files)]

    @cached_property
    def test(self) -> list[Case]:
        """Labelled test subjects at their named phases; no choice is based on them.

        Raises:
            CannotFitError: no readable test subject has labels.
        """
        cases = [at_phases(case) for case in self._read(self.files["test"]) if case.labelled()]
        if not cases:
            raise CannotFitError(f"{self.cohort.root}: no readable test subject has labels; see 'nisf check'")
        return cases

    @cached_property
    def other_stacks(self) -> dict[str, Case]:
        """Cases of the test subjects' further stacks, e.g. long-axis views, by name of the subject."""
        return {
            case.name: case.keep(lambda item: item.stack > 0)
            for case in self._whole(self.files["test"])
            if any(item.stack > 0 for item in case.slices)
        }

    @cached_property
    def validation(self) -> list[Case]:
        """Subjects on which step counts are chosen."""
        return self._read(self.files["validation"])

    @cached_property
    def training(self) -> list[Case]:
        """Subjects that priors are trained on."""
        return self._read(self.files["training"])

    @property
    def paper(self) -> Variant:
        """The prior with the paper's network."""
        config = self.budget.paper_config()
        snapshots = tuple(max(1, round(part * config.train.steps)) for part in self.budget.snapshots)
        return Variant("paper", config, snapshots=snapshots)

    @property
    def image(self) -> Variant:
        """The image-conditioned prior, our default."""
        return Variant("image", self.budget.image_config())

    def folder(self, name: str) -> Path:
        """Folder of a prior or of the U-Net, which may not exist yet."""
        if name in self.reuse:
            return self.reuse[name]
        return self.output / "priors" / name

    def trained(self, name: str) -> bool:
        """Whether a prior, or the U-Net, is trained already."""
        folder = self.folder(name)
        if name == "unet":
            return (folder / WEIGHTS).is_file()
        return str(folder) in model_names() or (folder / SPECIFICATION).is_file()

    def prior(self, variant: Variant) -> Prior:
        """The prior of a variant: read if it exists; otherwise trained, or its training resumed.

        Raises:
            NisfError: the existing one was trained with other settings.
        """
        key = (variant.name, variant.config)
        if key not in self._priors:
            self._priors[key] = self._prior(variant)
        return self._priors[key]

    def latent_prior(self, variant: Variant) -> LatentPrior:
        """The prior of a variant that needs fitted latents.

        Raises:
            NisfError: it is of another kind, or was trained with other settings.
        """
        prior = self.prior(variant)
        if not isinstance(prior, LatentPrior):
            raise BadSettingError(
                f"{prior.source}: a prior of the kind '{prior.kind}'; this experiment fits latents and needs "
                "the kind 'latent'"
            )
        return prior

    def _prior(self, variant: Variant) -> Prior:
        folder = self.folder(variant.name)
        if not self.trained(variant.name):
            self.say(f"training the prior '{variant.name}': {variant.config.train.steps} steps")
            cases = [variant.thin(case) if variant.thin else case for case in self.training]
            return train(
                cases,
                self.validation,
                self.anatomy,
                variant.config,
                folder,
                TrainOptions(resume=True, snapshots=variant.snapshots, say=self.say, device=self.device),
            )
        prior = load_prior(folder)
        if prior.anatomy.labels != self.anatomy.labels:
            raise BadSettingError(f"{folder}: its structures are not those of the cases; give another prior")
        if variant.name in self.reuse:
            self.check_unseen(folder)
        else:
            have, want = to_dict(prior.config), to_dict(variant.config)
            have["region"]["certain"] = want["region"]["certain"]  # training replaces it with a measured one
            for part in ("train", "augment", "image", "region"):
                if have[part] != want[part]:
                    raise BadFileError(
                        f"{folder}: was trained with another budget; give another output folder",
                        options=["output"],
                    )
        return prior

    def check_unseen(self, folder: Path) -> None:
        """Reject a prior or U-Net whose checkpoint lists test subjects among its training subjects.

        Without a checkpoint, as in models that come with nisf, a sentence says that nothing could be checked.
        """
        path = folder / CHECKPOINT
        if not path.is_file():
            self.say(
                f"{folder}: does not list its training subjects; make sure that no test subject is among them"
            )
            return
        seen = set(json.loads(read_metadata(path)["identity"])["cases"])
        if both := sorted(seen & {case.name for case in self.files["test"]}):
            raise BadSettingError(
                f"{folder}: was trained on test subjects ({first_few(both)}); give another prior"
            )

    def once(
        self, what: str, cases: Sequence[Case], settings: Mapping[str, Any], make: Callable[[], Any]
    ) -> Any:
        """Return the result of ``make``, stored as JSON under ``work/``.

        It is computed again if the settings, or the pixels or labels of a case, are no longer the same.

        Args:
            what: path below ``work/`` without extension.
            cases: the cases that the result depends on.
            settings: everything else that it depends on.
            make: computes it; the result must be JSON-serialisable.
        """
        path = self.output / "work" / f"{what}.json"
        wanted = json.loads(json.dumps({**settings, "data": [self._content(case) for case in cases]}))
        if path.is_file():
            kept = read_json(path)
            if isinstance(kept, dict) and kept.get("settings") == wanted:
                return kept["outcome"]
        outcome = json.loads(json.dumps(make()))
        write_json(path, {"settings": wanted, "outcome": outcome}, indent=None)
        return outcome
