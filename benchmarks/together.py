"""Train several recipes of the image field at once on one GPU, all finished when the time is over.

    python benchmarks/together.py build/gpu/acdc.npz -o OUT --minutes 9                  on the GPU
    python benchmarks/together.py build/gpu/acdc.npz -o OUT --minutes 2 --device cpu --quick   a rehearsal

The file is from ``pack.py``. Each recipe of `RECIPES` is a process of its own; one that fails does not stop
the others. First a step is timed as it stands and recorded as a CUDA graph. OUT gets ``NAME.safetensors``
(the averaged weights) of each, and ``together.json`` with settings, steps, losses and times. ``assemble.py``
makes priors of them.
"""

from __future__ import annotations

import absent  # isort: skip  # noqa: F401

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from nisf.config.overrides import override, to_dict
from nisf.config.presets import preset
from nisf.config.schema import Config, for_data
from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.errors import exit_status
from nisf.files import write_json, write_tensors
from nisf.kinds.image.recipe import CapturedSteps, ImageRecipe
from nisf.kinds.image.resident import Resident
from nisf.kinds.image.samples import Sampler
from nisf.kinds.load import load_prior
from nisf.kinds.recipe import TrainingSetup
from nisf.optimisation.loop import run
from nisf.prior.region_search import RegionSearch
from pack import unpacked

BOTH_PHASES = "image.phase_exchange=3 image.mirrors=1 train.subjects=2 train.steps=100000"
SCANNERS = (
    "augment.coil=2.3 augment.curve=0.35 augment.gamma=0.5 augment.gain=0.35 augment.offset=0.06 "
    "augment.slice_gain=0.12 augment.bias=0.25 augment.cut=0.1 augment.blur=0.35 augment.blur_pixels=1.8 "
    "augment.stretch=0.4 augment.sharpen=0.5 augment.noise=0.08 augment.noise_profile=1.0 augment.ghost=0.08 "
    "augment.scale=0.25 augment.scale_z=0.3"
)
WIDE = "image.width=48 image.hidden=96 image.features=32"


@dataclass(frozen=True)
class Trial:
    """A recipe to be trained.

    Attributes:
        start: model whose weights training begins from; random weights if empty.
        settings: changes of the preset ``image``, or of the start's.
        everyone: whether subjects whose number is divisible by five are trained on, too.
    """

    start: str
    settings: str
    everyone: bool = False

    def config(self) -> Config:
        """The complete settings."""
        if self.start:
            base = load_prior(self.start).continued()
        else:
            base = replace(preset("image"), augment=replace(preset("image").augment, coarse=0.3, hide=0.7))
        return for_data(override(base, self.settings.split()), dimensions=4, channels=1, classes=4)


RECIPES = {
    "on80-scanners": Trial("cardiac-sax-80", f"{BOTH_PHASES} train.seed=21 {SCANNERS}"),
    "on100-scanners": Trial("cardiac-sax", f"{BOTH_PHASES} train.seed=21 {SCANNERS}", everyone=True),
    "new80-scanners": Trial("", f"{BOTH_PHASES} train.seed=22 {SCANNERS}"),
    "new100-scanners": Trial("", f"{BOTH_PHASES} train.seed=22 {SCANNERS}", everyone=True),
    "on80-control": Trial("cardiac-sax-80", f"{BOTH_PHASES} train.seed=21"),
    "on100-control": Trial("cardiac-sax", f"{BOTH_PHASES} train.seed=21", everyone=True),
    "new80-wide": Trial("", f"{BOTH_PHASES} train.seed=22 {SCANNERS} {WIDE}"),
}
QUICK = ("image.pixels=48", "image.pixel_mm=3.5", "augment.coarse_pixels=32", "train.points=64")


def kept_out(name: str) -> bool:
    """Whether a case's last number is divisible by five."""
    return int(re.findall(r"\d+", name)[-1]) % 5 == 0


def recipe_of(trial: Trial, cases: list[Case], config: Config, device: str, say: Any) -> ImageRecipe:
    """The recipe of a trial, with its initial weights, and its samples on the device."""
    half = load_prior(trial.start or "cardiac-sax-80").half
    anatomy = load_anatomy("cardiac-sax")
    chosen = [case for case in cases if trial.everyone or not kept_out(case.name)]
    torch.manual_seed(config.train.seed)
    where = torch.device(device)
    recipe = ImageRecipe(TrainingSetup(chosen, [], anatomy, config, RegionSearch(half), say, where))
    if recipe.on_device is None:  # a rehearsal on the processor
        sampler = recipe.samples.draw
        assert isinstance(sampler, Sampler)
        recipe.on_device = CapturedSteps(recipe, Resident(sampler.pool, config, sampler.augment, where))
    if trial.start and config.image.pixels == 112:
        recipe.begin_with(load_prior(trial.start))
    return recipe


def config_of(name: str, options: argparse.Namespace) -> Config:
    """The settings of a trial, smaller in a rehearsal."""
    config = RECIPES[name].config()
    if options.quick:
        config = override(config, QUICK)
    more = {"validate_every": 0, "checkpoint_every": 10**9, "precision": options.precision}
    return replace(config, train=replace(config.train, **more))


def one(options: argparse.Namespace) -> int:
    """Train one recipe until the time is over."""
    name, began = options.only, time.time()

    def say(text: str) -> None:
        print(f"[{name}] {text}", flush=True)

    config = config_of(name, options)
    torch.backends.cudnn.benchmark = True
    cases = unpacked(options.pack, load_anatomy("cardiac-sax").labels)
    recipe = recipe_of(RECIPES[name], cases, config, options.device, say)
    if options.plain and recipe.on_device is not None:
        recipe.on_device.capture = False
    folder = options.work / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ready").touch()
    while not (options.work / "go").exists() and time.time() < options.until:
        time.sleep(0.1)
    minutes = (options.until - time.time()) / 60
    config = replace(config, train=replace(config.train, minutes=minutes))
    recipe.config = config
    say(f"set up in {time.time() - began:.0f} s; trains {len(recipe.cases)} cases for {minutes:.1f} minutes")
    log: list[dict[str, Any]] = []
    started, told, kept = time.monotonic(), 0.0, 0.0

    def report(record: Any) -> None:
        nonlocal told, kept
        passed = time.monotonic() - started
        log.append({**record, "seconds": round(passed, 1)})
        if passed - told > 30:
            told = passed
            say(f"step {record['step']}, {1000 * passed / record['step']:.1f} ms a step: {record}")
        if passed - kept > 60:
            kept = passed
            write_tensors(folder / "weights.safetensors", recipe.weights(), {"step": str(record["step"])})

    run(recipe, config.train, folder, {"config": to_dict(config), "cases": []}, {}, report=report, say=say)
    steps = recipe.state.step
    weights = {key: tensor.cpu().contiguous() for key, tensor in recipe.weights().items()}
    write_tensors(folder / "weights.safetensors", weights, {"step": str(steps), "finished": "yes"})
    done = {
        "steps": steps,
        "seconds": time.monotonic() - started,
        "config": to_dict(config),
        "log": log[::10],
    }
    write_json(folder / "done.json", done)
    say(f"done: {steps} steps, {1000 * done['seconds'] / steps:.1f} ms each; last {log[-1]}")
    return 0


def timed_steps(recipe: ImageRecipe, count: int, losses: list[float]) -> float:
    """Milliseconds per step over ``count`` more steps; appends the loss of every tenth and of the last."""
    began, end = time.perf_counter(), recipe.state.step + count
    while recipe.state.step < end:
        terms = recipe.descend(recipe.state.step)
        recipe.after_step()
        recipe.state.step += 1
        if recipe.state.step % 10 == 0 or recipe.state.step == end:
            losses.append(round(float(terms["loss"]), 5))  # waits for the device
    return 1000 * (time.perf_counter() - began) / count


def test(options: argparse.Namespace) -> int:
    """Time steps with and without capture as a CUDA graph, and record the losses of both."""
    found: dict[str, Any] = {}
    name = next(iter(RECIPES))
    torch.backends.cudnn.benchmark = True
    cases = unpacked(options.pack, load_anatomy("cardiac-sax").labels)[:12]
    count = 3 if options.quick else 40
    for way in ("plain", "recorded", "recorded bf16"):
        config = config_of(name, options)
        if way == "recorded bf16":
            config = replace(config, train=replace(config.train, precision="bf16"))
        try:
            recipe = recipe_of(RECIPES[name], cases, config, options.device, print)
            assert recipe.on_device is not None
            recipe.on_device.capture = way != "plain"
            losses: list[float] = []
            first = timed_steps(recipe, 10, losses)
            found[way] = {"ms": timed_steps(recipe, count, losses), "first_ms": first, "losses": losses}
            if options.device == "cuda":
                found[way]["GiB"] = torch.cuda.max_memory_allocated() / 2**30
        except Exception:  # its error is recorded, and the others go on
            found[way] = {"error": traceback.format_exc()[-1500:]}
        print(f"[test] {way}: {found[way]}", flush=True)
    write_json(options.work / "test.json", found)
    return 0


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """Copy the results so far to the output."""
    about: dict[str, Any] = {}
    for name in options.names:
        folder = options.work / name
        if (folder / "weights.safetensors").is_file():
            data = (folder / "weights.safetensors").read_bytes()
            (options.output / f"{name}.safetensors").write_bytes(data)
        if (folder / "done.json").is_file():
            about[name] = json.loads((folder / "done.json").read_text())
        else:
            about[name] = {"unfinished": True, "log": _tail(folder / "log.jsonl")}
    if (options.work / "test.json").is_file():
        about["test"] = json.loads((options.work / "test.json").read_text())
    write_json(options.output / "together.json", about)
    return about


def _tail(path: Path) -> list[str]:
    return path.read_text().splitlines()[-3:] if path.is_file() else []


def start(options: argparse.Namespace, *more: str) -> subprocess.Popen[bytes]:
    """Start a process that runs one part."""
    own = [
        sys.executable,
        __file__,
        str(options.pack),
        "-o",
        str(options.output),
        "--work",
        str(options.work),
    ]
    own += ["--device", options.device, "--until", str(options.until), "--precision", options.precision]
    own += ["--quick"] * options.quick + ["--plain"] * options.plain
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([*own, *more], env=environment)


@dataclass
class Clock:
    """A clock that starts when it is made."""

    began: float = field(default_factory=time.time)

    def passed(self) -> float:
        """Seconds since the start."""
        return time.time() - self.began


def main(arguments: list[str] | None = None) -> int:
    """Run all parts, or as a child process one of them; the exit status is 1 if one failed."""
    clock = Clock()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plain", action="store_true", help="record nothing")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--names", nargs="*", default=list(RECIPES))
    parser.add_argument("--work", type=Path, default=Path("/tmp/together"))
    parser.add_argument("--threads", type=int, default=2)
    for hidden in ("only", "until"):
        parser.add_argument(f"--{hidden}", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.until = float(options.until or clock.began + 60 * options.minutes)
    if options.only:
        return test(options) if options.only == "test" else one(options)
    for folder in (options.output, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("go", "test.json"):  # left by an earlier run
        (options.work / name).unlink(missing_ok=True)
    for name in options.names:
        shutil.rmtree(options.work / name, ignore_errors=True)
    trials = {name: start(options, "--only", name) for name in options.names}
    checked = start(options, "--only", "test")
    try:
        checked.wait(timeout=0.2 * 60 * options.minutes)
    except subprocess.TimeoutExpired:
        checked.kill()
        print("[all] the test took too long and was ended", flush=True)
    (options.work / "go").touch()
    print(f"[all] go after {clock.passed():.0f} s", flush=True)
    # Trainings end by themselves when the time is over; a last step and writing take some seconds.
    last = options.until + 20
    while any(trial.poll() is None for trial in trials.values()) and time.time() < last:
        time.sleep(1)
    for name, trial in trials.items():
        if trial.poll() is None:
            print(f"[all] {name} is ended", flush=True)
            trial.kill()
    about = collect(options)
    for name, found in about.items():
        print(f"[all] {name}: { {k: v for k, v in found.items() if k not in ('log', 'config')} }", flush=True)
    print(f"[all] {clock.passed():.0f} s in all", flush=True)
    failed = [name for name, found in about.items() if "unfinished" in found]
    failed += [way for way, found in about.get("test", {}).items() if "error" in found]
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(exit_status("together.py", main))
