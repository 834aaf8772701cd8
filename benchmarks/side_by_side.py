"""Which of two checkouts is faster? Runs the same work with both, alternately.

    python benchmarks/side_by_side.py CHECKOUT OTHER -o OUT.json [--repeats 5] -- segment SCAN -o {out}
    python benchmarks/side_by_side.py CHECKOUT OTHER -o OUT.json [--repeats 5] --training [image] [cpu]

The first form runs `nisf` with the package of each checkout; ``{out}`` is a fresh folder each time. With
``--training``, both train the presets `image` and `cpu` on phantoms, for two numbers of steps: the
difference is the time of the steps alone. A warm-up round is not counted. Prints medians and ranges of
wall-clock and CPU seconds (use the latter on a busy machine), and how much longer OTHER takes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import new_parser
from nisf.errors import BadSettingError, exit_status
from nisf.files import write_json
from nisf.phantom import Scanner, write_cohort
from timing import CLOCKS, load_average, machine, run_nisf, summary

Seconds = dict[str, float]
"""By the name of the clock."""

STEPS = {"image": (2, 32), "cpu": (10, 60)}
"""Preset to the lengths of its two trainings."""
ALIKE = ("train.validate_every=0", "train.checkpoint_every=1000000", "region.finder_steps=1")
# Coarse canvases last for a part of all steps: the longer training would see more of them.
SETTINGS = {"image": (*ALIKE, "augment.coarse=0"), "cpu": ALIKE}
"""Preset to settings with which a longer training only has more steps."""

say = partial(print, flush=True)


def command_seconds(checkout: Path, command: Sequence[str], threads: int) -> Seconds:
    """Seconds of one run of a command, by clock."""
    with tempfile.TemporaryDirectory() as name:
        arguments = [part.replace("{out}", name) for part in command]
        return run_nisf(checkout, arguments, Path.cwd(), threads)[0]


def step_seconds(checkout: Path, preset: str, data: Path, threads: int) -> Seconds:
    """Seconds per training step by clock, from two trainings of different length."""
    lengths = STEPS[preset]
    found = []
    for steps in lengths:
        settings = ["--validation", "none", "--set", f"train.steps={steps}", *SETTINGS[preset]]
        command = ["train", str(data), "-o", "{out}/prior", "--preset", preset, *settings]
        found.append(command_seconds(checkout, command, threads))
    short, long = found
    return {clock: (long[clock] - short[clock]) / (lengths[1] - lengths[0]) for clock in CLOCKS}


def compared(
    measure: Callable[[Path], Seconds], checkouts: tuple[Path, Path], repeats: int
) -> dict[str, Any]:
    """Seconds of both checkouts, run alternately; the order changes with every repeat."""
    taken: tuple[list[Seconds], list[Seconds]] = ([], [])
    for turn in range(repeats + 1):
        for side in (0, 1) if turn % 2 else (1, 0):
            seconds = measure(checkouts[side])
            if turn:
                taken[side].append(seconds)
                told = ", ".join(f"{clock} {value:.3f} s" for clock, value in seconds.items())
                say(f"  {checkouts[side]}: {told}")
    out: dict[str, Any] = {}
    for clock in CLOCKS:
        first, other = (summary([seconds[clock] for seconds in side]) for side in taken)
        out[clock] = {"first": first, "other": other, "ratio": other["median"] / first["median"]}
    return out


def lines(what: str, row: dict[str, Any]) -> list[str]:
    """The printed lines of one comparison, one for each clock."""
    out = []
    for clock, values in row.items():
        first, other = (
            f"{values[side]['median']:.3f} s ({values[side]['least']:.3f} to {values[side]['most']:.3f})"
            for side in ("first", "other")
        )
        out.append(f"{what}, {clock}: {first}, other {other}, ratio {values['ratio']:.3f}")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    command = given[cut + 1 :]
    parser = new_parser(__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--training", nargs="*", choices=sorted(STEPS), help="presets; all if none is named")
    options = parser.parse_args(given[:cut])
    if bool(command) == (options.training is not None):
        raise BadSettingError("give either a command of nisf after --, or --training")
    if options.repeats < 1:
        raise BadSettingError(f"--repeats {options.repeats}: give a number of at least 1")
    pair = (options.checkout.resolve(), options.other.resolve())
    result: dict[str, Any] = {
        "machine": machine(),
        "threads": options.threads,
        "checkouts": [str(path) for path in pair],
        "command": command,
    }
    with tempfile.TemporaryDirectory() as name:
        work: dict[str, Callable[[Path], Seconds]] = {}
        if command:
            work["nisf " + command[0]] = partial(command_seconds, command=command, threads=options.threads)
        else:
            write_cohort(name, 3, seed=0, scanner=Scanner(frames=2))
            for preset in options.training or STEPS:
                work[f"a step of the preset {preset}"] = partial(
                    step_seconds, preset=preset, data=Path(name), threads=options.threads
                )
        for what, measure in work.items():
            say(f"{what}:")
            result[what] = compared(measure, pair, options.repeats)
            for line in lines(what, result[what]):
                say(line)
            result["machine"]["load_after"] = load_average()
            write_json(options.output, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("side_by_side.py", main))
