"""How much do results depend on the seed? The field, with and without phase exchange, and the U-Net.

    python benchmarks/seeds.py ACDC -o OUT [--seeds 0 1 2] [--longer 5000] [--device cuda] [--set ...]

One round of the preset `image` each, on all but every fifth case, with two volumes per step: two random
ones (field, U-Net), or two phases of one subject (pair). Scored on every fifth case as `nisf paper` does,
with all sections kept: all slices given, and every second slice hidden, for which the U-Net's slices are
interpolated. An interrupted run resumes. OUT gets ``seeds.csv``: method, seed, protocol, Dice and HD95 of
each case.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import new_parser, write_rows
from nisf.cli import main as nisf
from nisf.data.anatomy import load_anatomy
from nisf.device import named_device
from nisf.errors import CannotFitError, exit_status
from nisf.io.readers import open_cohort
from nisf.kinds.load import load_prior
from nisf.paper.budget import budget
from nisf.paper.methods import Method, by_prior, by_unet, of_subjects, score_method
from nisf.paper.study import TEST_EVERY, Study
from nisf.paper.unet import trained_unet

FIELDS = {"field": (), "pair": ("image.phase_exchange=3", "train.subjects=1")}
PROTOCOLS = ("none", "every-2nd-slice")


def train_field(options: argparse.Namespace, kind: str, seed: int) -> Path:
    """The folder of a prior, which is trained if it does not exist.

    Raises:
        CannotFitError: it could not be trained.
    """
    folder: Path = options.output / f"{kind}{seed}"
    if not (folder / "prior.json").is_file():
        # The test cases are validated on at the end alone, and nothing is chosen by them here.
        settings = [f"train.seed={seed}", "train.validate_every=0", *FIELDS[kind], *options.set]
        command = ["train", str(options.data), "-o", str(folder), "--anatomy", options.anatomy, "--resume"]
        command += ["--validation", f"every-{TEST_EVERY}th", "--cache", str(options.output / "cache")]
        if nisf([*command, "--device", options.device, "--set", *settings]):
            raise CannotFitError(f"{folder}: training failed")
    return folder


def methods_of(options: argparse.Namespace, seed: int) -> tuple[Study, list[Method]]:
    """The study of a seed, and its methods."""
    folders = {kind: train_field(options, kind, seed) for kind in FIELDS}
    work: Path = options.output / f"work{seed}"
    spent = replace(budget("hours", options.test), unet_steps=load_prior(folders["field"]).config.train.steps)
    reuse = {"image": folders["field"], "unet": options.output / f"unet{seed}"}
    device = named_device(options.device)
    study = Study(options.data, work, load_anatomy(options.anatomy), spent, reuse=reuse, device=device)
    priors = {kind: load_prior(folder) for kind, folder in folders.items()}
    fields = [by_prior(k, p, replace(p.config.fit, certain=())) for k, p in priors.items()]
    return study, [*fields, *by_unet(study)]


def longer(options: argparse.Namespace, seed: int, study: Study) -> tuple[Study, list[Method]]:
    """The U-Net of a seed after a second round of training, on full canvases from the start."""
    prior = load_prior(options.output / f"field{seed}")
    config = prior.continued()
    config = replace(config, train=replace(config.train, seed=seed + 10))
    first, folder = options.output / f"unet{seed}", options.output / f"unet{seed}-longer"
    trained_unet(
        lambda: [*study.training, *study.validation],
        replace(prior, config=config),
        options.longer,
        folder,
        print,
        study.device,
        first,
    )
    reuse = {"image": options.output / f"field{seed}", "unet": folder}
    work: Path = options.output / f"work{seed}-longer"
    again = Study(options.data, work, study.anatomy, study.budget, reuse=reuse)
    return again, [replace(method, name=f"longer {method.name}") for method in by_unet(again)]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Lines with the mean over seeds, and each seed's value, of every method and protocol."""
    lines = []
    for protocol in PROTOCOLS:
        scored = [row for row in rows if row["protocol"] == protocol]
        for method in dict.fromkeys(row["method"] for row in scored):
            chosen = [row for row in scored if row["method"] == method]
            seeds = sorted({row["seed"] for row in chosen})
            each = {
                value: [of_subjects([r for r in chosen if r["seed"] == s], value=value).mean() for s in seeds]
                for value in ("dice", "hd95_mm")
            }
            dice = ", ".join(f"{d:.4f}" for d in each["dice"])
            lines.append(
                f"{protocol:16s} {method:22s} Dice {np.mean(each['dice']):.4f} ({dice}), "
                f"HD95 {np.mean(each['hd95_mm']):.1f} mm"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, train what is missing, score, print and write."""
    parser = new_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--anatomy", default="cardiac-sax")
    parser.add_argument("--test", type=int, default=None, help="test cases at most")
    parser.add_argument(
        "--longer", type=int, default=0, help="steps of a second round of the first seed's U-Net"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    open_cohort(options.data, load_anatomy(options.anatomy))  # what is wrong with it is said once, first
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        study, methods = methods_of(options, seed)
        ways = [(study, methods)]
        if options.longer and seed == options.seeds[0]:
            ways.append(longer(options, seed, study))
        for protocol in PROTOCOLS:
            for which, found in ways:
                rows += [{"seed": seed, **row} for m in found for row in score_method(which, m, protocol)]
    if not rows:
        raise CannotFitError(f"{options.data}: no test case could be scored; see 'nisf check'")
    write_rows(options.output / "seeds.csv", rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("seeds.py", main))
