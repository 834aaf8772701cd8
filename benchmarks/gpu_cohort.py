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

from common import device_parser, machine, summary
from nisf.chunks import BATCHINGS, ON_CPU, ON_GPU, Batching
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

say = partial(print, flush=True)
REQUEST = Request(format="mha")
SECONDS = 55.0
"""Parts that have not begun by then are left out."""
CASES, DIFFERENT = 16, 4
"""Number of cases, and of different ones among them."""
PROCESSES = (1, 2, 4, 8)
RUNTIME = (
    "cudaLaunchKernel",
    "cuLaunchKernel",
    "cudaMemcpyAsync",
    "Synchronize",
    "cudaMalloc",
    "cudaHostAlloc",
)
"""Calls of the driver that are counted, by part of their name."""
WAYS = {"one by one": Batching(frames=1), "together": replace(ON_GPU, frames=1), "overlapped": ON_GPU}
"""Ways of batching, by name: as on a processor; batches; batches with several frames in progress."""


def choose(way: str) -> None:
    """Compute in this way from now on, whatever the device."""
    BATCHINGS["cpu"] = BATCHINGS["cuda"] = WAYS[way]


def scanner_of(quick: bool) -> Scanner:
    """The scanner of the phantoms."""
    if quick:
        return Scanner(matrix=(48, 48), spacing_mm=4.0, frames=3)
    return Scanner(matrix=(128, 128), spacing_mm=1.6, frames=20)


def phantoms(quick: bool) -> list[Case]:
    """The cohort: a few different cines, again and again, because making one takes a second."""
    different = [scan.case for scan in cohort(1 if quick else DIFFERENT, seed=3, scanner=scanner_of(quick))]
    return (different * CASES)[: 2 if quick else CASES]


@dataclass
class Bench:
    """What the parts share.

    Attributes:
        device: that computes.
        cases: the cohort.
        prior: on the device.
        quick: whether this is a rehearsal.
        began: when the script began, by `time.perf_counter`.
        result: of all parts so far.
    """

    device: torch.device
    cases: list[Case]
    prior: Prior
    quick: bool
    began: float
    result: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds until `SECONDS`."""
        return self.began + SECONDS - time.perf_counter()

    def wait(self) -> None:
        """Until the device has done all."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def clocked(self, times: dict[str, float], name: str) -> Generator[None]:
        """Add the seconds of a block, the device's included."""
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
        if time.perf_counter() - began > 10 or bench.left() < longest + 25:
            break
    return {
        name: {stage: summary([one.get(stage, 0.0) for one in stages]) for stage in stages[0]}
        for name, stages in found.items()
    }


def computed(case: Case, prior: Prior) -> np.ndarray:
    """Fit and render a case; its labels."""
    return segment_case(case, prior, REQUEST).render().label


def profiles(bench: Bench) -> dict[str, Any]:
    """Operators, calls of the driver and device time of one case, by way."""
    return {name: profiled(bench, name) for name in list(WAYS)[:2]}


def profiled(bench: Bench, way: str) -> dict[str, Any]:
    """The same of one way, with measures but without writing."""
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
    """Synchronisations of one case that PyTorch knows of, by line of code."""
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
    """Fit, render and measure the first case."""
    case = bench.cases[0]
    subject, files = segment_case(case, bench.prior, REQUEST), MeasureFiles()
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


def serve(pipe: Connection, device: str, path: str, threads: int, way: str) -> None:
    """Segment the cases whose indices come through the pipe; a process of its own."""
    torch.set_num_threads(threads)
    choose(way)
    cases, prior = pickle.loads(Path(path).read_bytes()), load_prior(DEFAULT).to(named_device(device))
    whole(cases[0], prior)
    pipe.send(None)
    while (indices := pipe.recv()) is not None:
        for index in indices:
            whole(cases[index % len(cases)], prior)
        pipe.send(None)


def processes(bench: Bench) -> dict[str, Any]:
    """Cases a second of several processes that share the device, each with its own share of the cases."""
    context, way = multiprocessing.get_context("spawn"), "together"
    counts = PROCESSES[:2] if bench.quick else PROCESSES
    threads = max(1, torch.get_num_threads() // counts[-1])
    crew: list[tuple[Any, Connection]] = []
    out: dict[str, Any] = {"way": way, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.pickle"
        path.write_bytes(pickle.dumps(bench.cases[:DIFFERENT]))
        try:
            for _ in range(counts[-1]):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=serve, args=(theirs, str(bench.device), str(path), threads, way), daemon=True
                )
                process.start()
                crew.append((process, ours))
            for _, pipe in crew:
                heard(pipe, bench.left())
            each = 1 if bench.quick else 3
            for count in counts:
                began = time.perf_counter()
                for number, (_, pipe) in enumerate(crew[:count]):
                    pipe.send(range(number, number + each))
                for _, pipe in crew[:count]:
                    heard(pipe, bench.left())
                out[str(count)] = round(count * each / (time.perf_counter() - began), 3)
        except TimeoutError as error:
            out["error"] = str(error)
        finally:
            for process, _ in crew:
                process.terminate()
                process.join()
    return out


def heard(pipe: Connection, seconds: float) -> None:
    """Wait for a process.

    Raises:
        TimeoutError: it took too long.
        EOFError: it ended.
    """
    if not pipe.poll(max(1.0, seconds)):
        raise TimeoutError("a process took too long")
    pipe.recv()


def agreement(bench: Bench) -> dict[str, Any]:
    """Voxels of one case that differ between the ways, and from the processor."""
    labels = {}
    for name in WAYS:
        choose(name)
        labels[name] = computed(bench.cases[0], bench.prior)
    if bench.device.type == "cuda" and bench.left() > 5:
        BATCHINGS["cpu"] = ON_CPU
        labels["processor"] = computed(bench.cases[0], bench.prior.to(CPU))
    first = next(iter(labels.values()))
    out: dict[str, Any] = {"drawn": int((first > 0).sum())}
    for name in labels:
        for other in labels:
            if name < other:
                out[f"{name} / {other}"] = int((labels[name] != labels[other]).sum())
    return out


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "turns": turns,
    "parts of a case": splits,
    "profile": profiles,
    "agreement": agreement,
    "processes": processes,
}


def entries(result: dict[str, Any], part: str) -> list[tuple[str, Any]]:
    """The entries of a part that was run."""
    found = result.get(part)
    return list(found.items()) if isinstance(found, dict) else [(part, found)]


def told(result: dict[str, Any]) -> list[str]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts; the exit status is 1 if one failed."""
    began = time.perf_counter()
    chosen = device_parser(__doc__).parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    device = named_device(chosen.device)
    cases = phantoms(chosen.quick)
    bench = Bench(device, cases, load_prior(DEFAULT).to(device), chosen.quick, began)
    bench.result |= {"machine": machine(), "device": str(device), "missing": absent.MISSING, "seconds": {}}
    if device.type == "cuda":
        bench.result["gpu"] = torch.cuda.get_device_name(device)
    for way in WAYS:  # not counted
        choose(way)
        whole(cases[0], bench.prior)
    bench.result["seconds"]["start"] = round(time.perf_counter() - began, 2)
    failed = False
    for name, part in PARTS.items():
        before = time.perf_counter()
        try:
            bench.result[name] = part(bench) if bench.left() > 0 else "left out: no time"
        except Exception as error:  # the other parts go on
            bench.result[name] = {"error": "".join(traceback.format_exception(error)[-3:])}
            failed = True
        bench.result["seconds"][name] = round(time.perf_counter() - before, 2)
        write_json(chosen.output / "gpu_cohort.json", bench.result)
    for line in told(bench.result):
        say(line)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(exit_status("gpu_cohort.py", main))
