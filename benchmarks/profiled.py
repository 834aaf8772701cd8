"""Where does the time go? PyTorch's profiler over one workload on the phantom, with the paper's network.

    python benchmarks/profiled.py query|training|fit [--plain] [--points N] [--rows 10]

Nothing is compiled, so that every operation is visible; ``--plain`` profiles the baseline. Times are CPU
times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

import plain
from common import new_parser
from nisf.config.presets import preset
from nisf.config.schema import FieldConfig
from nisf.errors import exit_status
from nisf.kinds.latent.recipe import latent_state, objective
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import ask
from nisf.networks.losses import intensity_bce
from nisf.optimisation.compile import in_parts
from workloads import random_batch

KINDS = ("query", "training", "fit")


def work(kind: str, points: int, *, baseline: bool) -> Callable[[], Any]:
    """The workload of a kind as a function."""
    torch.manual_seed(0)
    config, batch = replace(preset("paper"), field=FieldConfig()), random_batch(points)
    field, latent = LatentField(config.field), torch.zeros(128)
    network = plain.PlainField(field)
    if kind == "query":
        network.requires_grad_(False)
        if baseline:
            return partial(network, batch.coordinates[0], latent)
        return partial(ask, field, latent, np.asarray(batch.coordinates[0]))
    if kind == "fit":
        if baseline:
            return partial(plain.fit, network.requires_grad_(False), [batch], latent, steps=1)
        field.requires_grad_(False)

        def gradient() -> None:
            moved = latent[None].clone().requires_grad_(True)
            logits, _ = in_parts(field, batch.coordinates, moved)
            intensity_bce(logits, batch.intensity, batch.weight).sum().backward()

        return gradient
    if baseline:
        latents = torch.zeros(1, 128, requires_grad=True)
        optimiser = torch.optim.Adam([*network.parameters(), latents])
        weights = [*network.waves.parameters(), *network.scales.parameters()]
        return partial(plain.training_step, network, weights, latents, optimiser, 0, batch, config.train)
    field = LatentField(config.field)
    state = latent_state(field, config.train, 1)

    def step() -> None:
        latent = state.modules["latents"](torch.tensor([0]))
        loss, _ = objective(field, field, latent, batch, config.train)
        state.descend(loss)

    return step


def table(kind: str, points: int, rows: int, *, baseline: bool) -> str:
    """The profiler's table of one workload, after a warm-up call."""
    run = work(kind, points, baseline=baseline)
    run()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    return found.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=32)


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, profile and print."""
    parser = new_parser(__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--points", type=int, default=32_768)
    parser.add_argument("--rows", type=int, default=10)
    options = parser.parse_args(arguments)
    print(table(options.kind, options.points, options.rows, baseline=options.plain))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("profiled.py", main))
