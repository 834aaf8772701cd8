"""What a cohort of cines costs on a GPU, part by part; about a minute, and no data is needed.

    python benchmarks/gpu_cohort.py -o OUT                        on a GPU
    python benchmarks/gpu_cohort.py -o OUT --device cpu --quick   a rehearsal on the processor

Sixteen phantom cines of 20 frames are segmented as `nisf segment` does it, except that nothing is read.
Parts: seconds per case of each way of batching, in turns; the time of a case by part; its operations,
launches and synchronisations; voxels that differ between the ways and from the processor; processes that
share the device. OUT gets ``gpu_cohort.json``, again after each part. A part that fails is recorded with its
error, and the others go on.
"""

from __future__ import annotations

import absent  # isort: skip

import multiprocessing
import pickle
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from common import device_parser
from nisf.chunks import BATCHINGS, ON_CPU, ON_GPU
from nisf.data.case import Case
from nisf.device import CPU, named_device
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.image.model import ImageSubject
from nisf.kinds.load import load_prior
from nisf.phantom import Scanner, cohort
from nisf.prior.bundled import DEFAULT
from nisf.prior.prior import Prior
from nisf.quality.judge import judge
from nisf.segmentation import Request, segment_case, write_segmentation
from nisf.segmentation.measures import MeasureFiles
from nisf.stopwatch import Stopwatch
from timing import machine, summary

say = partial(print, flush=True)
REQUEST = Request(format="mha")
CASES, DIFFERENT = 16, 4
"""Number of cases, and of different ones among them."""
PROCESSES = (1, 2, 4, 8)
SHORT = 4
"""Frames of the case that is profiled, which takes time by the number of operations."""
SHARED = "together"
"""The way of batching of processes that share the device."""
RUNTIME = (
    "cudaLaunchKernel",
    "cuLaunchKernel",
    "cudaMemcpyAsync",
    "Synchronize",
    "cudaMalloc",
    "cudaHostAlloc",
)
"""Calls of the driver that are counted, by part of their name."""
WAYS = {"one by one": replace(ON_CPU, frames=1), "together": ON_GPU, "four frames": replace(ON_GPU, frames=4)}
"""Ways of batching, by name: as on a processor; in batches; in batches with four frames in progress."""


def choose(way: str) -> None:
    """Use this way of batching from now on, on every device."""
    BATCHINGS["cpu"] = BATCHINGS["cuda"] = WAYS[way]


def scanner_of(quick: bool) -> Scanner:
    """The scanner of the phantoms."""
    if quick:
        return Scanner(matrix=(48, 48), spacing_mm=4.0, frames=3)
    return Scanner(matrix=(128, 128), spacing_mm=1.6, frames=20)


def serve(pipe: Connection, device: str, threads: int) -> None:
    """Serve in a process: receive the path of the pickled cases, then indices of cases to segment."""
    torch.set_num_threads(threads)
    choose(SHARED)
    prior = load_prior(DEFAULT)
    cases = pickle.loads(Path(pipe.recv()).read_bytes())
    prior = prior.to(named_device(device))
    whole(cases[0], prior)
    pipe.send(None)
    while True:
        for index in pipe.recv():
            whole(cases[index % len(cases)], prior)
        pipe.send(None)


class Crew:
    """Processes that share the device; they start in the background.

    Args:
        count: number of processes.
        device: name of the device.
        threads: number of threads of each process.
    """

    def __init__(self, count: int, device: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.threads, self.pipes, self.processes = threads, [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, device, threads), daemon=True)
            process.start()
            theirs.close()  # or the end of the process would not be seen
            self.pipes.append(ours)
            self.processes.append(process)

    def done(self, messages: Sequence[Any], seconds: float) -> float:
        """Send one message each to the first processes; returns the seconds until all have answered.

        Raises:
            TimeoutError: a process took too long.
            EOFError: a process ended.
        """
        began = time.perf_counter()
        for pipe, message in zip(self.pipes, messages, strict=False):
            pipe.send(message)
        for pipe, _ in zip(self.pipes, messages, strict=False):
            if not pipe.poll(max(1.0, began + seconds - time.perf_counter())):
                raise TimeoutError("a process took too long")
            pipe.recv()
        return time.perf_counter() - began

    def end(self) -> None:
        """Stop all processes."""
        for process in self.processes:
            process.terminate()
            process.join()


@dataclass
class Bench:
    """Data and settings that the parts share.

    Attributes:
        device: the device that computes.
        cases: the cohort.
        prior: the prior, on the device.
        quick: whether this is a rehearsal.
        deadline: time of `time.perf_counter` after which no part begins.
        crew: processes that share the device.
        short: a cine of `SHORT` frames.
        result: results of all parts so far.
    """

    device: torch.device
    cases: list[Case]
    prior: Prior
    quick: bool
    deadline: float
    crew: Crew
    short: Case
    result: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds that are left to begin parts."""
        return self.deadline - time.perf_counter()

    def wait(self) -> None:
        """Wait until the device has finished all work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def clocked(self, times: dict[str, float], name: str) -> Generator[None]:
        """Add the seconds of a block to ``times``, including the device's work."""
        self.wait()
        began = time.perf_counter()
        yield
        self.wait()
        times[name] = round(times.get(name, 0.0) + time.perf_counter() - began, 4)


def whole(case: Case, prior: Prior) -> Stopwatch:
    """Segment, measure, judge and write one case."""
    with tempfile.TemporaryDirectory() as folder, Stopwatch() as clock:
        subject = segment_case(case, prior, REQUEST)
        writers = [MeasureFiles()]
        write_segmentation(subject, folder, REQUEST, case=case, writers=writers)
        clock.stages["wall"] = clock.seconds
    return clock


def turns(bench: Bench) -> dict[str, Any]:
    """Seconds per case of each way, taking turns over the cases."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    began, longest = time.perf_counter(), 0.0
    for case in bench.cases:
        for name in WAYS:
            choose(name)
            if bench.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(bench.device)
            before = time.perf_counter()
            found[name].append(whole(case, bench.prior).stages)
            bench.wait()
            found[name][-1]["wall"] = time.perf_counter() - before
            if bench.device.type == "cuda":
                found[name][-1]["peak GB"] = torch.cuda.max_memory_allocated(bench.device) / 1e9
        longest = max(longest, sum(stages[-1]["wall"] for stages in found.values()))
        if time.perf_counter() - began > 8 or bench.left() < longest + 20:
            break
    return {
        name: {stage: summary([one.get(stage, 0.0) for one in stages]) for stage in stages[0]}
        for name, stages in found.items()
    }


def computed(case: Case, prior: Prior) -> np.ndarray:
    """Labels of a case, fitted and rendered."""
    return segment_case(case, prior, REQUEST).render().label


def profiles(bench: Bench) -> dict[str, Any]:
    """Operators, calls of the driver and device time of one case, by way."""
    return {name: profiled(bench, name) for name in reversed(list(WAYS)[:2])}


def profiled(bench: Bench, way: str) -> dict[str, Any]:
    """The profile of one way, with measures but without writing."""
    choose(way)
    on_gpu = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as seen:
        measured(bench)
        bench.wait()
    rows = seen.key_averages()
    calls: Counter[str] = Counter()
    for row in rows:
        if any(part in row.key for part in RUNTIME):
            calls[row.key] += row.count
    kernels = [row for row in rows if row.self_device_time_total > 0 and not row.key.startswith("aten::")]
    busy = sum(row.self_device_time_total for row in kernels) / 1e6
    operators = sorted((r for r in rows if r.key.startswith("aten::")), key=lambda r: -r.self_cpu_time_total)
    return {
        "calls": dict(calls),
        "operators": sum(row.count for row in operators),
        "device_busy_s": round(busy, 4),
        "top_host": [[r.key, r.count, round(r.self_cpu_time_total / 1e3, 2)] for r in operators[:15]],
        "top_device": [
            [r.key[:70], r.count, round(r.self_device_time_total / 1e3, 2)]
            for r in sorted(kernels, key=lambda r: -r.self_device_time_total)[:15]
        ],
        "waits": waits(bench),
    }


def waits(bench: Bench) -> dict[str, Any]:
    """Synchronisations of one case that PyTorch warns of, by line of code."""
    if bench.device.type != "cuda":
        return {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            measured(bench)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines = Counter(
        f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)
    )
    return {"all": sum(lines.values()), "lines": dict(lines.most_common(12))}


def measured(bench: Bench) -> None:
    """Fit, render and measure the short case."""
    subject, files = segment_case(bench.short, bench.prior, REQUEST), MeasureFiles()
    subject.render(after_frame=files.answered(subject))


def splits(bench: Bench) -> dict[str, Any]:
    """Seconds of each part of one case, by way, waiting for the device after each part."""
    out: dict[str, Any] = {}
    for name in WAYS:
        choose(name)
        times: dict[str, float] = {}
        case = bench.cases[-1]
        with bench.clocked(times, "region, canvases, first look"):
            subject = segment_case(case, bench.prior, REQUEST).for_many_questions()
        assert isinstance(subject, ImageSubject)
        subject = replace(subject, encoded=None)  # the search for the region has encoded a phase
        with bench.clocked(times, "encode"):
            for phase in range(len(subject.scenes.times)):
                subject.scenes.at(phase)
        with bench.clocked(times, "answer"):
            rendering = subject.render()
        files = MeasureFiles()
        frame = files.answered(subject)
        with bench.clocked(times, "measures and error bars"):
            for t in range(len(case.stacks[0].grid.times)):
                frame(t)
        with bench.clocked(times, "judge"):
            judge(subject, case, labels=rendering.label)
        with tempfile.TemporaryDirectory() as folder, bench.clocked(times, "write"):
            files.write(Path(folder), subject, rendering)
        out[name] = times
    return out


def processes(bench: Bench) -> dict[str, Any]:
    """Cases per second of several processes that share the device."""
    crew, each = bench.crew, 1 if bench.quick else 2
    out: dict[str, Any] = {"way": SHARED, "threads": crew.threads}
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cases.pickle"
            path.write_bytes(pickle.dumps(bench.cases[:DIFFERENT]))
            out["start"] = round(crew.done([str(path)] * len(crew.pipes), bench.left()), 2)
        for count in PROCESSES:
            if count <= len(crew.pipes):
                seconds = crew.done([range(k, k + each) for k in range(count)], bench.left())
                out[str(count)] = round(count * each / seconds, 3)
    except (TimeoutError, EOFError, OSError) as error:
        out["error"] = repr(error)
    return out


def agreement(bench: Bench) -> dict[str, Any]:
    """Voxels of the short case that differ between the ways, and from the processor."""
    labels = {}
    for name in WAYS:
        choose(name)
        labels[name] = computed(bench.short, bench.prior)
    if bench.device.type == "cuda":
        BATCHINGS["cpu"] = ON_CPU
        labels["processor"] = computed(bench.short, bench.prior.to(CPU))
    first = next(iter(labels.values()))
    out: dict[str, Any] = {"drawn": int((first > 0).sum())}
    for name in labels:
        for other in labels:
            if name < other:
                out[f"{name} / {other}"] = int((labels[name] != labels[other]).sum())
    return out


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "turns": turns,
    "processes": processes,
    "profile": profiles,
    "parts of a case": splits,
    "agreement": agreement,
}


def entries(result: dict[str, Any], part: str) -> list[tuple[str, Any]]:
    """The entries of a part that was run."""
    found = result.get(part)
    return list(found.items()) if isinstance(found, dict) else [(part, found)]


def summary_lines(result: dict[str, Any]) -> list[str]:
    """A short table of the results."""
    lines: list[str] = []
    for way, stages in entries(result, "turns"):
        if isinstance(stages, dict):
            medians = {stage: f"{values['median']:.2f}" for stage, values in stages.items()}
            lines.append(f"{way}, seconds per case: " + ", ".join(f"{s} {m}" for s, m in medians.items()))
    for way, found in entries(result, "profile"):
        if isinstance(found, dict):
            brief = {key: found[key] for key in ("calls", "operators", "device_busy_s", "waits")}
            lines.append(f"{way}, one case: {brief}")
            lines += [f"    {kind} {row}" for kind in ("top_host", "top_device") for row in found[kind][:8]]
    for part in ("parts of a case", "processes", "agreement"):
        lines.append(f"{part}: {result.get(part)}")
    return [*lines, f"seconds: {result.get('seconds')}"]


def cines(quick: bool) -> tuple[list[Case], Case]:
    """The cohort, which repeats a few cines because making one takes a second, and one short cine."""
    scanner = scanner_of(quick)
    different = [scan.case for scan in cohort(1 if quick else DIFFERENT, seed=3, scanner=scanner)]
    (short,) = (one.case for one in cohort(1, seed=3, scanner=replace(scanner, frames=SHORT)))
    return (different * CASES)[: 2 if quick else CASES], short


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts; the exit status is 1 if one failed."""
    parser = device_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=55.0, help="after which no part is begun")
    parser.add_argument("--after", type=Path, help="prepare, but use the device only once this file exists")
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    device, count = named_device(chosen.device), 2 if chosen.quick else PROCESSES[-1]
    crew = Crew(count, str(device), max(1, torch.get_num_threads() // count))
    try:
        cases, short = cines(chosen.quick)
        prior = load_prior(DEFAULT)
        while chosen.after and not chosen.after.exists():
            time.sleep(0.1)
        deadline = time.perf_counter() + chosen.seconds
        return run(Bench(device, cases, prior.to(device), chosen.quick, deadline, crew, short), chosen.output)
    finally:
        crew.end()


def run(bench: Bench, folder: Path) -> int:
    """Run all parts, write their results and return the exit status."""
    began, device = time.perf_counter(), bench.device
    bench.result |= {"machine": machine(), "device": str(device), "missing": absent.MISSING, "seconds": {}}
    if device.type == "cuda":
        bench.result["gpu"] = torch.cuda.get_device_name(device)
    for way in list(WAYS):  # not counted
        try:
            choose(way)
            whole(bench.cases[0], bench.prior)
        except Exception as error:  # the other ways go on
            del WAYS[way]
            bench.result[f"{way} failed"] = "".join(traceback.format_exception(error)[-4:])
            say(bench.result[f"{way} failed"])
    bench.result["seconds"]["start"] = round(time.perf_counter() - began, 2)
    failed = False
    for name, part in PARTS.items():
        before = time.perf_counter()
        try:
            bench.result[name] = part(bench) if bench.left() > 0 else "left out: no time"
            failed |= "error" in bench.result[name]
        except Exception as error:  # the other parts go on
            bench.result[name] = {"error": "".join(traceback.format_exception(error)[-3:])}
            failed = True
        bench.result["seconds"][name] = round(time.perf_counter() - before, 2)
        write_json(folder / "gpu_cohort.json", bench.result)
        say(f"{name}: {bench.result[name] if name not in ('turns', 'profile') else 'done'}")
    for line in summary_lines(bench.result):
        say(line)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(exit_status("gpu_cohort.py", main))
