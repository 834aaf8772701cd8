"""Everything that is to be known of a GPU, in one call of some minutes; no data is needed.

    python benchmarks/gpu.py -o OUT                 the paper's network, kernels, the image recipe
    python benchmarks/gpu.py -o OUT --device cpu --quick    a rehearsal on the processor

First what the card can do (matrix products, copies), then whether answers and gradients agree with the plain
field in fp64, then rates: training, gradient of the latent (plain, compiled, bf16, as a CUDA graph),
queries, steps of the image recipe with and without drawing their samples. Ways take turns in one run. OUT
gets ``gpu.json``; a way that fails is recorded with its error, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from common import device_parser
from nisf.config.presets import preset
from nisf.config.schema import FieldConfig
from nisf.data.anatomy import load_anatomy
from nisf.data.outline import box_of, outlines_of
from nisf.device import named_device
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.image.augment import Sample
from nisf.kinds.image.objective import image_objective
from nisf.kinds.image.recipe import ImageRecipe
from nisf.kinds.latent.recipe import latent_state, objective
from nisf.kinds.recipe import TrainingSetup
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import ask
from nisf.networks.losses import intensity_bce
from nisf.phantom import Scanner, cohort
from nisf.prior.region_search import RegionSearch
from timing import Task, forward_flop, interleaved, machine, summary
from workloads import image_config, random_batch

say = partial(print, flush=True)
QUICK = ("image.pixels=32", "image.pixel_mm=5", "image.width=8", "image.levels=2")
"""Settings of the image recipe in a rehearsal."""
PARTS = ("ceilings", "agreement", "training", "fitting", "queries", "image recipe")
Way = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Bench:
    """The device, and the sizes of the work."""

    def __init__(self, device: torch.device, quick: bool, ways: Sequence[str] | None = None) -> None:
        self.device, self.quick, self.ways = device, quick, ways
        self.points = 2_048 if quick else 262_144
        self.repeats = 1 if quick else 5
        self.rounds = 1 if quick else 10
        self.side = 256 if quick else 8_192
        self.config = FieldConfig(width=32, latent=32, layers=2) if quick else FieldConfig()

    def wait(self) -> None:
        """Wait until the device has finished all work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, work: Callable[[], Any], worth: float) -> Task:
        """A task that calls ``work`` several times; each call counts as ``worth`` points."""

        def task() -> float:
            for _ in range(self.rounds):
                work()
            self.wait()
            return worth * self.rounds

        return task

    def rates(self, tasks: Mapping[str, Callable[[], Task]]) -> dict[str, Any]:
        """Rates of the tasks that work; the errors of the others."""
        ready: dict[str, Task] = {}
        wrong: dict[str, Any] = {}
        for name, make in tasks.items():
            try:
                ready[name] = make()
                ready[name]()
                self.wait()
            except Exception as error:  # a way that this card lacks must not end the run
                ready.pop(name, None)
                wrong[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
                say(f"  {name}: {wrong[name]['error']}")
        found = interleaved(ready, self.repeats, say)
        return {**{name: summary(values) for name, values in found.items()}, **wrong}


def ceilings(bench: Bench) -> dict[str, Any]:
    """Operations per second of matrix products, and bytes per second of copies (read plus written)."""
    n, device = bench.side, bench.device

    def product(kind: torch.dtype, tf32: bool) -> Task:
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))

        def work() -> None:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a @ b
            torch.backends.cuda.matmul.allow_tf32 = False

        return bench.timed(work, 2.0 * n**3)

    def copy() -> Task:
        source = torch.empty(n * n, device=device)
        target = torch.empty_like(source)
        return bench.timed(lambda: target.copy_(source), 8.0 * n * n)

    say("ceilings:")
    return bench.rates(
        {
            "product fp32": partial(product, torch.float32, False),
            "product tf32": partial(product, torch.float32, True),
            "product bf16": partial(product, torch.bfloat16, False),
            "copy, bytes": copy,
        }
    )


def ways(bench: Bench, field: LatentField) -> dict[str, Callable[[], Way]]:
    """Every implementation of the field's forward pass, by name; all are differentiable."""

    def in_bf16(network: Way) -> Way:
        def call(coordinates: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(bench.device.type, dtype=torch.bfloat16):
                return network(coordinates, latent)

        return call

    out: dict[str, Callable[[], Way]] = {"plain": lambda: field, "plain, bf16": lambda: in_bf16(field)}
    if not bench.quick:
        out["compiled"] = lambda: torch.compile(field, dynamic=False)
        out["compiled, bf16"] = lambda: in_bf16(torch.compile(field, dynamic=False))
    return {name: make for name, make in out.items() if bench.ways is None or name in bench.ways}


def agreement(bench: Bench, field: LatentField) -> dict[str, Any]:
    """Largest difference from the plain field in fp64, relative to the largest entry: logits, gradients."""
    generator = np.random.default_rng(0)
    coordinates = torch.tensor(generator.uniform(-1, 1, (2, 4096, 4)), dtype=torch.float32)
    latent = torch.tensor(generator.normal(0, 0.1, (2, bench.config.latent)), dtype=torch.float32)
    coordinates, latent = coordinates.to(bench.device), latent.to(bench.device)

    def outcome(network: Way, place: Tensor, code: Tensor) -> list[Tensor]:
        code = code.clone().requires_grad_(True)
        field.zero_grad()
        intensity, classes = network(place, code)
        (
            torch.sigmoid(intensity.double()).sum() + torch.softmax(classes.double(), -1)[..., 1:].sum()
        ).backward()
        assert code.grad is not None
        weights = torch.cat([p.grad.flatten() for p in field.parameters() if p.grad is not None])
        return [t.detach().double() for t in (intensity, classes, code.grad, weights)]

    say("differences from fp64, relative to the largest entry:")
    exact = outcome(field.double(), coordinates.double(), latent.double())
    field.float()
    found: dict[str, Any] = {}
    for name, make in ways(bench, field).items():
        try:
            got = outcome(make(), coordinates, latent)
            apart = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, exact, strict=True)]
            found[name] = dict(zip(("intensity", "classes", "latent", "weights"), apart, strict=True))
        except Exception as error:  # see `Bench.rates`
            found[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        say(f"  {name}: {found[name]}")
    field.zero_grad(set_to_none=True)
    return found


def training(bench: Bench, field: LatentField) -> dict[str, Any]:
    """Points per second of whole training steps."""
    config = replace(preset("paper").train, subjects=1)
    drawn = random_batch(bench.points, bench.device)

    def task(make: Callable[[], Way]) -> Task:
        network, state = make(), latent_state(field, config, 1)
        chosen = torch.zeros(1, dtype=torch.long, device=bench.device)

        def work() -> None:
            loss, _ = objective(network, field, state.modules["latents"](chosen), drawn, config)
            state.descend(loss)

        return bench.timed(work, bench.points)

    say("training, points a second:")
    return bench.rates({name: partial(task, make) for name, make in ways(bench, field).items()})


def fitting(bench: Bench, field: LatentField) -> dict[str, Any]:
    """Points per second of the latent's gradient, weights frozen; the plain way also as one CUDA graph."""
    drawn, frozen = random_batch(bench.points, bench.device), field.requires_grad_(False)

    def step(network: Way, latent: Tensor) -> None:
        logits, _ = network(drawn.coordinates, latent)
        latent.grad = None
        intensity_bce(logits.float(), drawn.intensity, drawn.weight).sum().backward()

    def start() -> Tensor:
        return torch.zeros(1, bench.config.latent, device=bench.device, requires_grad=True)

    def task(make: Callable[[], Way]) -> Task:
        return bench.timed(partial(step, make(), start()), bench.points)

    def graph(make: Callable[[], Way]) -> Task:
        network, latent = make(), start()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(network, latent)
        torch.cuda.current_stream().wait_stream(stream)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            step(network, latent)
        return bench.timed(recorded.replay, bench.points)

    made = ways(bench, frozen)
    tasks = {name: partial(task, make) for name, make in made.items()}
    if bench.device.type == "cuda":
        tasks |= {f"{name}, as a graph": partial(graph, make) for name, make in made.items()}
    say("gradient of the latent, points a second:")
    found = bench.rates(tasks)
    field.requires_grad_(True)
    return found


def queries(bench: Bench, field: LatentField) -> dict[str, Any]:
    """Points per second from coordinates to probabilities in the host's memory."""
    coordinates = np.random.default_rng(0).uniform(-1, 1, (4 * bench.points, 4)).astype(np.float32)
    latent = torch.zeros(bench.config.latent, device=bench.device)
    tasks = {
        f"nisf, {memory} MiB": partial(
            lambda m: bench.timed(lambda: ask(field, latent, coordinates, memory_mb=m), len(coordinates)),
            memory,
        )
        for memory in (64, 512, 4096)
    }
    say("queries, points a second:")
    return bench.rates(tasks)


def image_recipe(bench: Bench) -> dict[str, Any]:
    """Steps per second of the image recipe: drawing samples, computing, and both."""
    scanner = Scanner(matrix=(64, 64), spacing_mm=3.0, frames=2) if bench.quick else Scanner(frames=2)
    cases = [one.case for one in cohort(2, seed=0, scanner=scanner)]
    config = image_config(*(QUICK if bench.quick else ()))
    anatomy = load_anatomy("cardiac-sax")
    outlines = outlines_of(cases, order=anatomy.reorder)
    search = RegionSearch(box_of(outlines, config.region.margin_mm))
    recipe = ImageRecipe(TrainingSetup(cases, [], anatomy, config, search, say, bench.device))
    counter = iter(range(10**9))

    def drawn(step: int) -> list[list[Sample]]:
        found = recipe.samples(step, config.image)
        return [[sample.to(bench.device) for sample in phases] for phases in found]

    fixed = drawn(0)

    def compute(draw: bool, precision: Literal["fp32", "bf16"] = "fp32") -> Task:
        settings = replace(config.train, precision=precision)

        def work() -> None:
            seen = drawn(next(counter)) if draw else fixed
            samples, together = [s for phases in seen for s in phases], [len(phases) for phases in seen]
            loss, _ = image_objective(recipe.online, samples, settings, together)
            recipe.state.descend(loss)
            recipe.after_step()

        return bench.timed(work, 1)

    say("image recipe, steps a second:")
    return bench.rates(
        {
            "drawing alone": lambda: bench.timed(lambda: recipe.samples(next(counter), config.image), 1),
            "computing alone": partial(compute, False),
            "computing alone, bf16": partial(compute, False, "bf16"),
            "a whole step": partial(compute, True),
        }
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure everything and return the exit status."""
    parser = device_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--ways", nargs="+", help="of the paper's network, as the output names them; all if not given"
    )
    chosen = parser.parse_args(arguments)
    bench = Bench(named_device(chosen.device), chosen.quick, chosen.ways)
    chosen.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    field = LatentField(bench.config).to(bench.device)
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else None
    flop = forward_flop(bench.config)
    result: dict[str, Any] = {
        "machine": machine(),
        "gpu": name,
        "points": bench.points,
        "forward_flop": flop,
    }
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "ceilings": partial(ceilings, bench),
        "agreement": partial(agreement, bench, field),
        "training": partial(training, bench, field),
        "fitting": partial(fitting, bench, field),
        "queries": partial(queries, bench, field),
        "image recipe": partial(image_recipe, bench),
    }
    for part in chosen.parts:
        result[part] = parts[part]()
        # After each part: a call that is cut off leaves what it has.
        write_json(chosen.output / "gpu.json", result)
    best = {k: v["median"] for k, v in result.get("ceilings", {}).items() if "median" in v and "product" in k}
    for part, times in (("training", 3), ("fitting", 2), ("queries", 1)):
        for way, row in result.get(part, {}).items():
            if "median" in row and best:
                achieved = row["median"] * flop * times
                part_of_best = achieved / max(best.values())
                say(f"{part}, {way}: {achieved / 1e12:.2f} TFLOP/s, {part_of_best:.1%} of the ceiling")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("gpu.py", main))
