"""Speed of fitting, training, queries and start-up, compared with the paper's procedure written plainly.

    python benchmarks/speed.py -o OUT                            the whole comparison; takes hours
    python benchmarks/speed.py -o OUT --quick                    minutes
    python benchmarks/speed.py -o OUT --data ACDC --prior PRIOR  on a real case, with Dice

--clock cpu counts CPU seconds: with OMP_NUM_THREADS=1, a busy machine then gives the times of an idle
one. --quick runs only a few steps of the baseline's fit, and does not compare times of fits. Baseline
(`plain.py`) and nisf alternate within one run. OUT gets ``speed.json`` and ``speed.png``. Without --prior
the network has random weights, which cost the same, and the columns on accuracy are left out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import common
import tasks
import timing
import workloads
from nisf.errors import exit_status
from nisf.files import write_json
from tasks import QUICK, Plan, say
from timing import interleaved, summary
from workloads import Workload


def table(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The printed table: quantity, median, range, and ratio to the baseline."""
    rows = []
    for part in ("training", "gradient of the latent", "query"):
        base = result[part]["plain, eager"]["median"]
        for name, row in result[part].items():
            spread = f"{row['least'] / 1e3:.1f} to {row['most'] / 1e3:.1f}"
            rows.append(
                (f"{part}: {name}", f"{row['median'] / 1e3:.1f} k/s", spread, f"{row['median'] / base:.1f}x")
            )
    plain_fit = result["fit"]["plain, eager"]
    for name, row in result["fit"].items():
        seconds = float(np.median(row["seconds"]))
        times = f"{plain_fit['seconds'][0] / seconds:.0f}x" if plain_fit["complete"] else "not compared"
        note = "" if row["complete"] else f" ({row['steps']} of 672 steps)"
        extra = f"Dice {row['dice']:.3f}, BCE {row['intensity_bce']:.4f}" if "dice" in row else ""
        rows.append((f"fit: {name}", f"{seconds:.1f} s{note}", extra, times))
    beyond = result["start-up"]["beyond torch"]
    rows.append(
        (
            "start-up beyond torch's import",
            f"{beyond['median']:.1f} s",
            f"{beyond['least']:.1f} to {beyond['most']:.1f}",
            "",
        )
    )
    ceiling = result["ceiling_gflops"]
    for name, value in result["achieved_gflops"].items():
        rows.append(
            (
                f"matrix products: {name}",
                f"{value:.0f} GFLOP/s",
                f"of {ceiling:.0f}",
                f"{value / ceiling:.0%}",
            )
        )
    return rows


def roofline(result: dict[str, Any], flop: int) -> dict[str, float]:
    """GFLOP/s of each rate, counting the network's matrix products only."""
    training, query = result["training"], result["query"]
    ours = training.get("nisf", training["nisf, not compiled"])
    # Backward multiplies twice: by the weights, and by the layers' inputs.
    return {
        "query": query["nisf"]["median"] * flop / 1e9,
        "query, plain": query["plain, eager"]["median"] * flop / 1e9,
        "training": 3 * ours["median"] * flop / 1e9,
        "training, plain": 3 * training["plain, eager"]["median"] * flop / 1e9,
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the rates of training, gradient and query as bars."""
    import matplotlib as mpl

    from nisf.picture import STYLE, new_figure, save_figure

    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        parts = ("training", "gradient of the latent", "query")
        figure = new_figure(7.5, 0.32 * sum(len(result[p]) for p in parts) + 1.2)
        heights = [len(result[part]) for part in parts]
        for axes, part in zip(figure.subplots(3, 1, height_ratios=heights), parts, strict=True):
            names = list(result[part])[::-1]
            values = np.array([result[part][n]["median"] for n in names]) / 1e3
            low = values - np.array([result[part][n]["least"] for n in names]) / 1e3
            high = np.array([result[part][n]["most"] for n in names]) / 1e3 - values
            colours = ["#30638e" if n.startswith("nisf") else "#9a9a9a" for n in names]
            axes.barh(names, values, xerr=[low, high], color=colours)
            axes.set_title(f"{part}, thousand points a second")
        save_figure(figure, path)


def run(workload: Workload, plan: Plan) -> dict[str, Any]:
    """Run all measurements; returns the content of ``speed.json``."""
    machine = timing.machine()
    say("matrix products, operations a second:")
    tops = interleaved(timing.ceilings(), plan.repeats, say, plan.clock)
    result: dict[str, Any] = {"machine": machine, "case": workload.case.name, "trained": workload.trained}
    result["quick"] = plan.steps < 672
    rates = {
        "training": tasks.training(workload, plan),
        "gradient of the latent": tasks.fit_rates(workload, plan),
        "query": tasks.queries(workload, plan),
    }
    result |= {part: {name: summary(v) for name, v in row.items()} for part, row in rates.items()}
    result["fit"] = tasks.fits(workload, plan)
    result["start-up"] = tasks.start_up(workload, min(plan.repeats, 3), plan.clock)
    again = interleaved(timing.ceilings(), plan.repeats, say, plan.clock)
    result["products"] = {name: summary(tops[name] + again[name]) for name in tops}
    result["ceiling_gflops"] = max(row["most"] for row in result["products"].values()) / 1e9
    result["achieved_gflops"] = roofline(result, timing.forward_flop(workload.prior.config.field))
    machine["load_after"] = timing.load_average()
    return result


def main(arguments: list[str] | None = None, plan: Plan | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser = common.new_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clock", choices=sorted(timing.CLOCKS), default="wall")
    parser.add_argument("--data", type=Path, help="a cohort; needs --prior")
    parser.add_argument("--prior", type=Path, help="folder of a prior with the paper's network")
    parser.add_argument("--case", help="name of the case; the cohort's first by default")
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.prior is None):
        parser.error("--data and --prior go together")
    plan = plan or (QUICK if options.quick else Plan())
    plan = replace(plan, clock=timing.CLOCKS[options.clock])
    if options.data:
        workload = workloads.real_workload(options.data, options.prior, options.case)
    else:
        workload = workloads.phantom_workload(plan.scanner)
    result = run(workload, plan) | {"clock": options.clock}
    write_json(options.output / "speed.json", result)
    draw(result, options.output / "speed.png")
    for row in table(result):
        say("{:<60} {:>24} {:>26} {:>12}".format(*row))
    if result["quick"]:
        say("quick: the baseline's fit stopped early and is not compared")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("speed.py", main))
