"""Train a network for each fold of a cross-validation, for `fit_uncertainty.py --fold`.

    python benchmarks/train_folds.py ACDC -o OUT [--folds 1 2] [--set NAME=VALUE ...]

The cohort has a folder for each case. Cases whose number is divisible by five are left out altogether: they
are for validation of the model itself. Fold k (1 to 4) trains on the others except those whose number leaves
the remainder k, which are listed in ``OUT/foldk.txt``; its prior is in ``OUT/foldk-round2``. An interrupted
run resumes. A fold takes 83 minutes on one core; start the command twice to train two at a time on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from common import new_parser
from nisf.errors import exit_status
from nisf.files import replacing
from train_models import ACDC, carry_out, remainders

ROUNDS = (
    "train.steps=5200 train.minutes=38 train.validate_every=0 train.precision=fp32 image.phase_exchange=3 "
    "image.mirrors=1 augment.hide=0.2 fit.certain=0,0,0.94 train.seed=",
    "train.steps=6000 train.minutes=45 train.learning_rate=1.5e-3 fit.certain=0,0,0.94 train.seed=1",
)
"""Settings of both rounds, to which the fold's number is appended; little is hidden, because measures are of
whole stacks."""


def prepare(data: Path, output: Path) -> Path:
    """Write the names of each fold, and a folder that links to all cases that belong to one."""
    folder = output / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    remainder = remainders(sorted(path.name for path in data.iterdir() if path.is_dir()))
    for name, number in remainder.items():
        if number and not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve(), target_is_directory=True)
    for k in range(1, 5):
        with replacing(output / f"fold{k}.txt") as path:
            path.write_text("".join(f"{name}\n" for name, number in remainder.items() if number == k))
    return folder


def rounds(cases: Path, output: Path, folds: Sequence[int], also: Sequence[str]) -> Iterator[list[str]]:
    """The commands of both rounds of each fold."""
    for k in folds:
        start = ["--preset", "image", "--licence", ACDC]
        for number, settings in enumerate(ROUNDS, start=1):
            folder = str(output / f"fold{k}-round{number}")
            command = ["train", str(cases), "-o", folder, *start, "--resume", "--threads", "1"]
            command += ["--validation", str(output / f"fold{k}.txt")]
            yield [*command, "--set", *f"{settings}{k}".split(), *also]
            start = ["--start", folder]


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and train the folds that are not done."""
    parser = new_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", choices=range(1, 5), default=[1, 2, 3, 4])
    parser.add_argument("--set", nargs="+", action="extend", default=[], dest="also", metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    cases = prepare(options.data, options.output)
    return carry_out(rounds(cases, options.output, options.folds, options.also))


if __name__ == "__main__":
    raise SystemExit(exit_status("train_folds.py", main))
