"""Train several recipes of the image field at once on one GPU, all finished when the time is over.

    python benchmarks/together.py build/gpu/acdc.npz -o OUT --minutes 9                  on the GPU
    python benchmarks/together.py build/gpu/acdc.npz -o OUT --minutes 2 --device cpu --quick   a rehearsal

The file is from ``pack.py``. A step is thousands of small kernels that leave most of the card idle. Each
recipe of `RECIPES` therefore trains in a thread with a stream of its own, so that their kernels run side by
side. One that fails does not stop the others. OUT gets ``NAME.safetensors`` (the averaged weights) of each,
and ``together.json`` with settings, steps, losses and times. ``assemble.py`` makes priors of them.
"""

from __future__ import annotations

import absent  # isort: skip  # noqa: F401

import argparse
import multiprocessing
import os
import re
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from nisf.config.overrides import override as with_settings
from nisf.config.overrides import to_dict
from nisf.config.presets import preset
from nisf.config.schema import Config, for_data
from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.data.outline import Outline, outline
from nisf.errors import exit_status
from nisf.files import write_json, write_tensors
from nisf.kinds.image.recipe import Batches, ImageRecipe
from nisf.kinds.image.resident import Resident
from nisf.kinds.image.samples import Sampler
from nisf.kinds.load import load_prior
from nisf.kinds.recipe import TrainingSetup
from nisf.optimisation.loop import run
from nisf.optimisation.state import State
from nisf.prior.region_search import RegionSearch
from pack import unpacked

BOTH_PHASES = "image.phase_exchange=3 image.mirrors=1 train.steps=100000"
MILD = (
    "augment.coil=1.2 augment.curve=0.2 augment.gain=0.3 augment.slice_gain=0.1 augment.cut=0.05 "
    "augment.stretch=0.3 augment.sharpen=0.3 augment.noise_profile=0.5 augment.ghost=0.05 "
    "augment.scale=0.25 augment.scale_z=0.3"
)
WIDE = "image.width=48 image.hidden=96 image.features=32"


@dataclass(frozen=True)
class Trial:
    """A recipe that is trained.

    Attributes:
        start: model whose weights it begins with; anew if empty.
        settings: changes of the preset ``image``, or of the start's.
        everyone: whether subjects whose number is divisible by five are trained on, too.
    """

    start: str
    settings: str
    everyone: bool = False

    def config(self) -> Config:
        """All of its settings."""
        if self.start:
            base = load_prior(self.start).continued()
        else:
            base = replace(preset("image"), augment=replace(preset("image").augment, hide=0.7))
        return for_data(with_settings(base, self.settings.split()), dimensions=4, channels=1, classes=4)


ANEW = (
    f"{BOTH_PHASES} train.subjects=8 train.points=512 train.learning_rate=3e-3 train.precision=bf16 "
    f"augment.coarse=0.2 {MILD}"
)
ON = f"{BOTH_PHASES} train.subjects=8 train.points=512 train.precision=bf16 {MILD}"
RECIPES = {
    "new80": Trial("", f"{ANEW} train.seed=31"),
    "new100": Trial("", f"{ANEW} train.seed=31", everyone=True),
    "on80": Trial("cardiac-sax-80", f"{ON} train.seed=32"),
    "on100": Trial("cardiac-sax", f"{ON} train.seed=32", everyone=True),
    "wide80": Trial("", f"{ANEW} train.seed=31 {WIDE}"),
}
QUICK = (
    "train.precision=fp32",
    "image.pixels=48",
    "image.pixel_mm=3.5",
    "augment.coarse_pixels=32",
    "train.points=64",
)


def kept_out(name: str) -> bool:
    """Whether a case's last number is divisible by five."""
    return int(re.findall(r"\d+", name)[-1]) % 5 == 0


@dataclass(frozen=True, eq=False)
class Outlined:
    """A case and its outline, which takes longer to make than anything else before a training."""

    case: Case
    outline: Outline

    @classmethod
    def of(cls, case: Case) -> Outlined:
        """Make the outline."""
        return cls(case, outline(case, order=True))


def outlined_cases(pack: Path) -> list[Outlined]:
    """All cases of a file, outlined by one process a core."""
    torch.set_num_threads(1)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(Outlined.of, unpacked(pack, load_anatomy("cardiac-sax").labels)))


@dataclass(frozen=True, eq=False)
class KnownSetup(TrainingSetup):
    """A set-up whose cases have been outlined before."""

    outlined: Sequence[Outlined] = ()

    @cached_property
    @override
    def outlines(self) -> Sequence[Outline]:
        return [one.outline for one in self.outlined]


def recipe_of(trial: Trial, cases: list[Outlined], config: Config, device: str, say: Any) -> ImageRecipe:
    """The recipe, its weights begun with, its samples on the device."""
    half = load_prior(trial.start or "cardiac-sax-80").half
    anatomy = load_anatomy("cardiac-sax")
    outlined = [one for one in cases if trial.everyone or not kept_out(one.case.name)]
    chosen = [one.case for one in outlined]
    torch.manual_seed(config.train.seed)
    where = torch.device(device)
    setup = KnownSetup(chosen, [], anatomy, config, RegionSearch(half), say, where, outlined=outlined)
    recipe = ImageRecipe(setup)
    if recipe.batches is None:  # a rehearsal on the processor
        sampler = recipe.samples.draw
        assert isinstance(sampler, Sampler)
        recipe.batches = Batches(recipe, Resident(sampler.pool, config, sampler.augment, where))
    if trial.start and config.image.pixels == 112:
        recipe.begin_with(load_prior(trial.start))
    return recipe


def config_of(name: str, options: argparse.Namespace) -> Config:
    """The settings of a trial, small ones in a rehearsal."""
    config = RECIPES[name].config()
    if options.quick:
        config = with_settings(config, QUICK)
    return replace(config, train=replace(config.train, validate_every=0, checkpoint_every=10**9))


LAUNCHING = threading.Lock()
"""Held while a step is launched or captured; the GPU works through it afterwards."""


class Launched:
    """A recipe whose steps are launched one at a time, those of all threads in turn."""

    def __init__(self, recipe: ImageRecipe) -> None:
        self.recipe = recipe

    @property
    def state(self) -> State:
        """Of the recipe."""
        return self.recipe.state

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See `nisf.optimisation.loop.Recipe`."""
        return self.recipe.loss(step)

    def descend(self, step: int) -> Mapping[str, Tensor]:
        """See `nisf.optimisation.loop.Recipe`."""
        with LAUNCHING:
            return self.recipe.descend(step)

    def after_step(self) -> None:
        """See `nisf.optimisation.loop.Recipe`."""
        with LAUNCHING:
            self.recipe.after_step()

    def validate(self) -> None:
        """Nothing: cases are scored elsewhere."""


def own_stream(device: str) -> AbstractContextManager[object]:
    """A context in which this thread's work has a stream of its own."""
    if device == "cpu":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream())


class Training(threading.Thread):
    """Trains one recipe until the time is over."""

    def __init__(self, name: str, cases: list[Outlined], options: argparse.Namespace) -> None:
        super().__init__(name=name, daemon=True)
        self.options, self.cases = options, cases
        self.folder = options.work / name
        self.log: list[dict[str, Any]] = []
        self.outcome: dict[str, Any] = {"error": "was not finished"}
        self.config = config_of(name, options)
        self.recipe = recipe_of(RECIPES[name], cases, self.config, options.device, self.say)

    def say(self, text: str) -> None:
        """Print a line with the recipe's name."""
        print(f"[{self.name}] {text}", flush=True)

    def run(self) -> None:
        """Train; an error is kept and told."""
        try:
            with own_stream(self.options.device):
                self.train()
        except Exception:  # the others go on
            self.outcome = {"error": traceback.format_exc()[-1500:]}
            self.say(self.outcome["error"])

    def train(self) -> None:
        """Train and write the weights."""
        minutes = (self.options.until - time.time()) / 60
        config = replace(self.config, train=replace(self.config.train, minutes=minutes))
        self.recipe.config = config
        began = told = kept = time.monotonic()

        def report(record: Any) -> None:
            nonlocal told, kept
            now = time.monotonic()
            self.log.append({**record, "seconds": round(now - began, 1)})
            if now - told > 30:
                told = now
                self.say(
                    f"step {record['step']}, {1000 * (now - began) / record['step']:.1f} ms a step: {record}"
                )
            if now - kept > 60:
                kept = now
                self.write()

        self.folder.mkdir(parents=True, exist_ok=True)
        identity = {"config": to_dict(config), "cases": []}
        run(Launched(self.recipe), config.train, self.folder, identity, {}, report=report, say=self.say)
        self.write()
        steps, seconds = self.recipe.state.step, time.monotonic() - began
        self.outcome = {"steps": steps, "seconds": seconds, "config": to_dict(config), "log": self.log[::10]}
        self.say(f"done: {steps} steps, {1000 * seconds / steps:.1f} ms each; last {self.log[-1]}")

    def write(self) -> None:
        """The averaged weights."""
        weights = {key: tensor.cpu().contiguous() for key, tensor in self.recipe.weights().items()}
        path = self.options.output / f"{self.name}.safetensors"
        write_tensors(path, weights, {"step": str(self.recipe.state.step)})


def main(arguments: list[str] | None = None) -> int:
    """Train all, or time steps."""
    began = time.time()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--names", nargs="*", default=list(RECIPES))
    parser.add_argument("--work", type=Path, default=Path("/tmp/together"), help="for checkpoints and logs")
    options = parser.parse_args(arguments)
    options.until = began + 60 * options.minutes
    torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, 4
    for folder in (options.output, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    cases = outlined_cases(options.pack)
    print(f"[all] {len(cases)} cases after {time.time() - began:.0f} s", flush=True)
    trainings = []
    for name in options.names:
        trainings.append(Training(name, cases, options))
        trainings[-1].start()
        print(f"[all] {name} starts after {time.time() - began:.0f} s", flush=True)
    for training in trainings:
        # Trainings end by themselves when the time is over; a last step and writing take some seconds.
        training.join(max(0.0, options.until + 20 - time.time()))
    write_json(options.output / "together.json", {one.name: one.outcome for one in trainings})
    print(f"[all] {time.time() - began:.0f} s in all", flush=True)
    if any(one.is_alive() for one in trainings):
        os._exit(1)  # a thread that still waits for the GPU would hold up an ordinary exit
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("together.py", main))
