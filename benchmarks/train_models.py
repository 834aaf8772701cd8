"""Retrain a bundled model, round after round; an interrupted run resumes.

    python benchmarks/train_models.py cardiac-sax DATA -o OUT      the shipped weights; seven rounds, hours
    python benchmarks/train_models.py cardiac-sax-80 DATA -o OUT   the model of the results
    python benchmarks/train_models.py hippocampus DATA -o OUT

DATA is ACDC's training set, or Task04 of the Medical Segmentation Decathlon. Subjects whose number is
divisible by five are held out, except in the last four rounds of ``cardiac-sax``. OUT gets one folder per
round; the last one is the model. --set adds settings to every round, e.g. to try it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from common import new_parser
from nisf.cli import main as nisf
from nisf.data.anatomy import load_anatomy
from nisf.errors import BadSettingError, exit_status
from nisf.files import replacing
from nisf.io.readers import open_cohort

ACDC = "research use only (ACDC, CC BY-NC-SA 4.0)"
DECATHLON = "CC BY-SA 4.0 (Medical Segmentation Decathlon)"
HEART = (
    "train.optimiser=adam train.precision=fp32 augment.blur_pixels=1.1 image.slice_exchange=0",
    "train.steps=6000 train.learning_rate=1.5e-3 train.seed=1 augment.hide=0.6",
    "train.steps=8000 train.learning_rate=1.5e-3 train.seed=2 augment.hide=0.7 augment.blur_pixels=1.6",
    "train.steps=6000 train.learning_rate=1.5e-3 train.seed=3 image.slice_exchange=3",
    "train.steps=6000 train.learning_rate=1.5e-3 train.seed=3 image.mirrors=1",  # the fourth once more
    "train.steps=11000 train.learning_rate=2e-3 train.seed=6 train.optimiser=muon train.precision=auto "
    "train.subjects=1 image.phase_exchange=3 fit.certain=0,0,0.94",  # both phases of a subject together
    "train.steps=9400 train.learning_rate=2e-3 train.seed=21 train.precision=fp32 train.subjects=2 "
    "augment.coil=2.3 augment.curve=0.35 augment.gamma=0.5 augment.gain=0.35 augment.offset=0.06 "
    "augment.slice_gain=0.12 augment.bias=0.25 augment.cut=0.1 augment.blur=0.35 augment.blur_pixels=1.8 "
    "augment.stretch=0.4 augment.sharpen=0.5 augment.noise=0.08 augment.noise_profile=1.0 augment.ghost=0.08 "
    "augment.scale=0.25 augment.scale_z=0.3",  # the looks of other scanners; shipped from a GPU
)
HIPPOCAMPUS = (
    "field.dimensions=3 image.pixels=64 image.pixel_mm=1 image.distance_mm=2 image.slice_exchange=0 "
    "augment.coarse_pixels=32 augment.centre_mm=3 augment.bend_mm=1 augment.slice_shift_mm=0 "
    "augment.blur_pixels=1.1 train.steps=3000 train.optimiser=adam train.precision=fp32",
    "train.steps=2500 train.learning_rate=1.5e-3 train.seed=1 augment.degrees=10",
    "train.steps=3500 train.learning_rate=1.5e-3 train.seed=2 image.slice_exchange=3 augment.window=12",
    "train.steps=4000 train.learning_rate=1.5e-3 train.seed=3 augment.hide=0.3",
    "train.steps=4000 train.learning_rate=2e-3 train.seed=4 train.optimiser=muon train.precision=auto",
)
MODELS = {
    "cardiac-sax": ("cardiac-sax", ACDC, HEART, 4),
    "cardiac-sax-80": ("cardiac-sax", ACDC, HEART, 0),
    "hippocampus": ("hippocampus", DECATHLON, HIPPOCAMPUS, 0),
}
"""Anatomy, licence, the settings of each round, and how many of the last rounds see every subject."""


def remainders(names: list[str]) -> dict[str, int]:
    """Remainder of each name's last number divided by five; cases with 0 are for validation.

    Raises:
        BadSettingError: a name has no number.
    """
    numbers = {name: re.findall(r"\d+", name) for name in names}
    for name, found in numbers.items():
        if not found:
            raise BadSettingError(
                f"{name}: a case without a number; give the data that the model was trained on"
            )
    return {name: int(found[-1]) % 5 for name, found in numbers.items()}


def kept_out(names: list[str]) -> list[str]:
    """The names whose last number is divisible by five.

    Raises:
        BadSettingError: a name has no number.
    """
    return [name for name, remainder in remainders(names).items() if remainder == 0]


def rounds(model: str, data: Path, output: Path, also: list[str]) -> list[list[str]]:
    """The commands of all rounds, in order."""
    anatomy, licence, settings, on_all = MODELS[model]
    names = [files.name for files in open_cohort(data, load_anatomy(anatomy)).cases]
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "val.txt") as path:
        path.write_text("\n".join(kept_out(names)) + "\n")
    commands = []
    for number, chosen in enumerate(settings, start=1):
        start = ["--start", str(output / f"round{number - 1}")]
        if number == 1:
            start = ["--anatomy", anatomy, "--licence", licence]
        validation = "none" if number > len(settings) - on_all else str(output / "val.txt")
        folder = str(output / f"round{number}")
        command = ["train", str(data), "-o", folder, *start, "--validation", validation, "--resume"]
        commands.append([*command, "--set", *chosen.split(), *also])
    return commands


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and run the rounds that are not done."""
    parser = new_parser(__doc__)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", nargs="+", action="extend", default=[], dest="also", metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    return carry_out(rounds(options.model, options.data, options.output, options.also))


def carry_out(commands: Iterable[list[str]]) -> int:
    """Run the trainings whose prior is not there yet, in order; the exit status of the first that fails."""
    for command in commands:
        folder = Path(command[command.index("-o") + 1])
        if (folder / "prior.json").is_file():
            print(f"{folder} is there")
            continue
        print("nisf", *command, flush=True)
        if status := nisf(command):
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("train_models.py", main))
