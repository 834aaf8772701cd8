"""``nisf doctor``: check the installation."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One line of the output.

    Attributes:
        part: the component it describes.
        says: one sentence or value.
        good: False if nisf cannot work because of it.
    """

    part: str
    says: str
    good: bool = True


@dataclass(frozen=True)
class Doctor:
    """Check this installation: versions, devices, models, caches, extras, and a self-test of a few seconds.

    The output names none of your files, so you can paste it into a bug report. The exit status is 1 if
    something that nisf needs does not work; missing extras do not count.
    """

    json: bool = False
    """Print the findings as JSON."""
    no_self_test: bool = False
    """Skip the self-test, which segments a phantom."""

    def run(self) -> int:
        checks: list[Callable[[], Iterable[Finding]]] = [packages, devices, models, caches, extras]
        if not self.no_self_test:
            checks.append(self_test)
        findings = []
        for check in checks:
            for finding in guarded(check):
                findings.append(finding)
                if not self.json:
                    mark = "" if finding.good else "  <- does not work"
                    print(f"{finding.part:20s} {finding.says}{mark}", flush=True)
        failed = [finding.part for finding in findings if not finding.good]
        if self.json:
            import json
            from dataclasses import asdict

            print(json.dumps([asdict(finding) for finding in findings], indent=1))
        else:
            print(f"does not work: {', '.join(failed)}" if failed else "nisf works here")
        return 1 if failed else 0


def guarded(check: Callable[[], Iterable[Finding]]) -> Iterable[Finding]:
    """The findings of a check; if it raises, a finding with the error."""
    try:
        yield from check()
    except Exception as error:  # reporting what is broken is the purpose of this command
        yield Finding(
            getattr(check, "__name__", "check").replace("_", "-"),
            f"{type(error).__name__}: {error}",
            good=False,
        )


def packages() -> Iterable[Finding]:
    """Versions of nisf, Python and the main dependencies."""
    from nisf import __version__
    from nisf.outputs.provenance import commit

    yield Finding("nisf", f"{__version__}, commit {commit() or 'unknown'}")
    supported = sys.version_info >= (3, 11)
    yield Finding("python", f"{platform.python_version()}, {platform.platform()}", good=supported)
    for name in ("torch", "numpy", "nibabel", "scipy"):
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "not installed", good=False)


def devices() -> Iterable[Finding]:
    """Devices that can run networks."""
    import torch

    from nisf.device import available_bytes, bf16_units, idle_cores

    cores = f"{os.cpu_count()} cores, {idle_cores()} of them idle"
    yield Finding("processor", f"{cores}; bf16 units: {'yes' if bf16_units() else 'no'}")
    free = available_bytes()
    yield Finding("memory", "unknown" if free is None else f"{free / 2**30:.1f} GiB available")
    if not torch.cuda.is_available():
        yield Finding("gpu", "none that this PyTorch can use; --device cuda will be refused")
        return
    for number in range(torch.cuda.device_count()):
        seen = torch.cuda.get_device_properties(number)
        yield Finding("gpu", f"cuda:{number} {seen.name}, {seen.total_memory / 2**30:.0f} GiB")


def models() -> Iterable[Finding]:
    """Whether the bundled models can be read."""
    from nisf.errors import NisfError
    from nisf.kinds.load import load_prior
    from nisf.prior.bundled import model_names

    for name in model_names():
        try:
            prior = load_prior(name)
        except NisfError as error:
            yield Finding(f"model {name}", str(error), good=False)
        else:
            yield Finding(f"model {name}", f"{', '.join(prior.anatomy.labels[1:])}")


def caches() -> Iterable[Finding]:
    """Folder of compiled code, and whether temporary files can be written."""
    from nisf.optimisation.compile import can_compile, keep_compiled_code

    folder = keep_compiled_code()
    home = str(Path.home())
    shown = str(folder).replace(home, "~", 1) if home != "/" else str(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    compiler = "a C++ compiler is available" if can_compile() else "no C++ compiler: training is not compiled"
    yield Finding("compiled code", f"{shown}, {size:.1f} MB; {compiler}")
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"nisf")
    except OSError as error:
        yield Finding("temporary files", str(error), good=False)


def extras() -> Iterable[Finding]:
    """Which optional features are installed."""
    needed: dict[str, list[str]] = {}
    for line in requires("nisf") or ():
        found = re.fullmatch(r"([\w.-]+)[^;]*; *extra *== *['\"]([\w-]+)['\"]", line)
        if found:
            needed.setdefault(found[2], []).append(found[1])
    for extra, names in sorted(needed.items()):
        missing = []
        for name in names:
            try:
                version(name)
            except PackageNotFoundError:
                missing.append(name)
        says = f"not installed (needs {', '.join(missing)})" if missing else "installed"
        yield Finding(f"extra {extra}", says)


def self_test() -> Iterable[Finding]:
    """Segment a phantom with the default model, write it, read it and query it."""
    import numpy as np

    from nisf.data.anatomy import load_anatomy
    from nisf.evaluation.scores import score_case
    from nisf.io.readers import open_cohort, read_case
    from nisf.io.subject_file import write_subject
    from nisf.kinds.load import load_prior, read_subject
    from nisf.phantom import Scanner, write_cohort
    from nisf.prior.fit import fit

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder / "data", 1, 0, Scanner(matrix=(72, 72), spacing_mm=3.5, frames=2))
        anatomy = load_anatomy("cardiac-sax")
        case = read_case(open_cohort(folder / "data", anatomy).cases[0], anatomy)
        subject = fit(case, load_prior("cardiac-sax"), find="centre")
        write_subject(folder / "a.nisf", subject)
        rendering = read_subject(folder / "a.nisf").render()
    dice = float(np.mean([s.dice for s in score_case(rendering.label.astype(np.int16), case)]))
    seconds = time.perf_counter() - began
    says = f"a phantom was segmented in {seconds:.1f} s; Dice {dice:.3f} (the model knows no phantoms)"
    yield Finding("self-test", says, good=dice > 0.5)
