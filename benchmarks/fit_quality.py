"""Fit the prediction of a segmentation's quality: writes ``quality.json`` into a prior's folder.

    python benchmarks/fit_quality.py PRIOR --data DATA -o OUT [--good N] [--spoilt N] [--validation N]

DATA is a labelled cohort with patients whom the prior was trained on, and others. Every Nth patient
(``--validation``, 5 by default, by the number in the name) was not seen by a model that was trained on 80
patients, and has a larger weight. Good cases and corrupted copies of them (`corrupted.SPOILT`, weakened
weights, a region beside the anatomy) are segmented, and Dice is regressed on the signs of their frames
(`nisf.quality`). OUT keeps ``rows.jsonl`` with one line per case, so that an interrupted run resumes. The
command prints how well Dice is predicted, cross-validated by patient.

The patients in `JUDGED` are left out, because `quality.py` evaluates the result on them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import prior_parser
from corrupted import SPOILT, Picture, Rng, picture_of
from nisf.data.case import UNKNOWN, Case
from nisf.data.region import Region, reference_pose
from nisf.errors import CannotFitError, exit_status
from nisf.files import read_json, write_json
from nisf.io.readers import CaseFiles, open_cohort, read_case
from nisf.kinds.load import load_prior
from nisf.prior.bundled import model_folder
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.prior.stored import SPECIFICATION
from nisf.quality.judge import examine
from nisf.quality.learning import Example, learn
from nisf.quality.model import QualityModel, to_json, with_features
from nisf.quality.sampling import Places, places_of
from nisf.subject.subject import Subject

JUDGED = ("patient020", "patient045", "patient070", "patient095")
"""Validation patients whom nothing is learnt from."""
UNSOUND = ("shifted slices", "shuffled", "wrong pixel size", "blank slices", "blur")
"""Spoiling that is to be noticed however good the Dice: what is segmented is not what was to be measured."""
WEAK, BESIDE = "weakened weights", "region beside"
KINDS = (*SPOILT, WEAK, BESIDE)
FOLDS = 5
VALIDATION_WEIGHT = 3.0
"""Of a good case that may be new to the prior, against one that it was trained on."""


def weakened(prior: Prior[Subject], rng: Rng) -> Prior[Subject]:
    """The prior with noise added to its field's weights, as if it were less well trained."""
    strength = rng.uniform(0.1, 0.5)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    tensors = {}
    for name, tensor in prior.weights().items():
        spread = float(tensor.float().std()) if tensor.numel() > 1 else 0.0
        noise = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        tensors[name] = tensor + strength * spread * noise if name.startswith("field.") else tensor
    return prior.with_weights(tensors, Path("weakened"))


def beside(case: Case, prior: Prior[Subject], rng: Rng) -> Region:
    """The region that the finder gives, shifted by a fraction of its size."""
    region, _ = prior.search.find(case)
    move = rng.uniform(0.3, 1.0) * region.half * rng.choice([-1, 1], 3)
    move[2] = 0.0
    return Region(reference_pose(case, region.pose.inverse(move)), region.half)


def dice_of(
    label: np.ndarray, picture: Picture, frame: int, places: Places, classes: int
) -> list[float | None]:
    """Dice of each structure where labels are known; None if neither side has it.

    Labels outside the region count as missed.
    """
    slices = range(picture.label.shape[2])
    truth = np.stack([places.of_image(picture.label[:, :, z, frame]) for z in slices], axis=-1)
    known, out = truth != UNKNOWN, []
    for k in range(1, classes):
        a, b, everywhere = (label == k) & known, truth == k, picture.label[..., frame] == k
        outside = int(everywhere.sum() - everywhere[places.window].sum()) / np.prod(places.step)
        total = float(a.sum() + b.sum() + outside)
        out.append(2 * int((a & b).sum()) / total if total else None)
    return out


def rows_of(
    case: Case | None, picture: Picture, prior: Prior[Subject], region: Region | None = None
) -> list[dict[str, Any]]:
    """Signs and Dice of a case's frames; nothing where the prior refuses it."""
    if case is None:
        return []
    try:
        subject = fit(case, prior, region=region)
    except CannotFitError:
        return []
    places, found = places_of(subject), []
    for one in examine(subject, case):
        assert places is not None
        signature = one.sample.signature
        found.append(
            {
                "signs": {name: float(f"{value:.6g}") for name, value in one.signs.items()},
                "signature": None if signature is None else [float(f"{v:.6g}") for v in signature],
                "dice": dice_of(one.sample.label, picture, one.frame, places, len(prior.anatomy.labels)),
            }
        )
    return found


@dataclass(frozen=True)
class Item:
    """A case to be segmented, and how it is spoilt, if at all."""

    files: CaseFiles
    kind: str | None
    turn: int

    @property
    def name(self) -> str:
        return self.files.name if self.kind is None else f"{self.files.name}, {self.kind}, {self.turn}"

    def made(self, prior: Prior[Subject]) -> list[dict[str, Any]]:
        """Rows of the case's frames."""
        case = read_case(self.files, prior.anatomy)
        picture = picture_of(case)
        rng = np.random.default_rng([self.turn, *self.name.encode()])
        if self.kind == WEAK:
            return rows_of(case, picture, weakened(prior, rng))
        if self.kind == BESIDE:
            return [] if prior.half is None else rows_of(case, picture, prior, beside(case, prior, rng))
        if self.kind is not None:
            picture = SPOILT[self.kind](picture, rng)
            case = picture.case(prior.anatomy)
        return rows_of(case, picture, prior)


def items_of(files: Sequence[CaseFiles], good: int, spoilt: int) -> list[Item]:
    """Good and spoilt cases alternately, in a reproducible order."""
    files = [f for f in files if f.name not in JUDGED]
    order = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    goods = [Item(f, None, 0) for f in order[:good]]
    spoils = [
        Item(order[n % len(order)], KINDS[(n + n // len(order)) % len(KINDS)], n // len(order))
        for n in range(spoilt)
    ]
    return [*goods, *spoils]


def gathered(items: Sequence[Item], prior: Prior[Subject], path: Path) -> Iterator[dict[str, Any]]:
    """A line for each item, from an earlier run or computed now."""
    kept: dict[str, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):  # broken off
            line = json.loads(text)
            if line["prior"] == prior.fingerprint:
                kept[line["item"]] = line
    began = time.perf_counter()
    for n, item in enumerate(items):
        if item.name not in kept:
            line = {
                "prior": prior.fingerprint,
                "item": item.name,
                "case": item.files.name,
                "kind": item.kind,
                "frames": item.made(prior),
            }
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(line) + "\n")
            kept[item.name] = line
            if n % 20 == 0:
                print(f"  {n} of {len(items)}, {time.perf_counter() - began:.0f} s", flush=True)
        yield kept[item.name]


def examples_of(lines: Sequence[dict[str, Any]], every: int) -> dict[str, list[Example]]:
    """The frames of each item that was not refused."""
    found = {}
    for line in lines:
        digits = re.findall(r"\d+", line["case"])
        new = bool(digits) and int(digits[-1]) % every == 0
        good, sound = line["kind"] is None, line["kind"] not in UNSOUND
        weight = VALIDATION_WEIGHT if good and new else 1.0
        frames = [
            Example(
                line["case"],
                good,
                sound,
                frame["signs"],
                None if frame["signature"] is None else np.array(frame["signature"]),
                np.array([np.nan if d is None else d for d in frame["dice"]], dtype=np.float64),
                weight,
            )
            for frame in line["frames"]
        ]
        frames = [frame for frame in frames if np.isfinite(frame.dice).any()]
        if frames:
            found[line["item"]] = frames
    return found


def cross_fitted(items: dict[str, list[Example]], structures: Sequence[str]) -> list[dict[str, Any]]:
    """Prediction for each item by a model that was fitted on other patients."""
    patients = sorted({frames[0].patient for frames in items.values()})
    fold = {patient: n % FOLDS for n, patient in enumerate(patients)}
    out = []
    for k in range(FOLDS):
        others = [e for frames in items.values() if fold[frames[0].patient] != k for e in frames]
        model = learn(others, structures)
        for name, frames in items.items():
            if fold[frames[0].patient] == k:
                said = model.light([with_features(e.signs, e.signature, model.signature) for e in frames])
                true = float(np.nanmean([e.dice for e in frames]))
                out.append(
                    {
                        "item": name,
                        "good": frames[0].good,
                        "sound": frames[0].sound,
                        "dice": true,
                        "said": said,
                    }
                )
    return out


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print correlations and lights, separately for good and spoilt cases."""
    for title, chosen in (("good", [r for r in rows if r["good"]]), ("good and spoilt", list(rows))):
        true = np.array([r["dice"] for r in chosen])
        said = np.array([r["said"].mean for r in chosen])
        error = np.abs(true - said).mean()
        print(
            f"{title}: {len(chosen)} cases, r = {np.corrcoef(true, said)[0, 1]:.3f}, mean error {error:.3f}"
        )
    sound = [r for r in rows if r["sound"]]
    groups = [
        ("Dice below 0.70", [r for r in sound if r["dice"] < 0.7]),
        ("0.70 to 0.85", [r for r in sound if 0.7 <= r["dice"] < 0.85]),
        ("above 0.85", [r for r in sound if r["dice"] >= 0.85]),
        ("as measured", [r for r in sound if r["good"]]),
        ("slices or mm wrong", [r for r in rows if not r["sound"]]),
    ]
    for title, chosen in groups:
        counts = [sum(r["said"].light == light for r in chosen) for light in ("green", "amber", "red")]
        print(f"{title}: {counts[0]} green, {counts[1]} amber, {counts[2]} red")


def discard_other(folder: Path) -> None:
    """Delete a ``quality.json`` that belongs to other weights: the prior would not load with it."""
    path = folder / "quality.json"
    if path.is_file() and read_json(path).get("prior") != read_json(folder / SPECIFICATION)["fingerprint"]:
        path.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, gather examples, fit, cross-validate and write."""
    parser = prior_parser(__doc__)
    parser.add_argument("--good", type=int, default=96, help="cases as they were measured")
    parser.add_argument("--spoilt", type=int, default=120, help="spoilt copies")
    parser.add_argument("--validation", type=int, default=5, help="every Nth is new to a model of the others")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    discard_other(model_folder(options.prior))
    prior = load_prior(options.prior)
    assert prior.folder is not None
    options.output.mkdir(parents=True, exist_ok=True)
    structures = prior.anatomy.labels[1:]
    items = items_of(open_cohort(options.data, prior.anatomy).cases, options.good, options.spoilt)
    lines = list(gathered(items, prior, options.output / "rows.jsonl"))
    examples = examples_of(lines, options.validation)
    print(f"{len(items)} cases, of which the prior refuses {sum(not line['frames'] for line in lines)}")
    report(cross_fitted(examples, structures))
    model: QualityModel = learn([e for frames in examples.values() for e in frames], structures)
    entries = {"prior": prior.fingerprint, **to_json(model)}
    write_json(prior.folder / "quality.json", entries)
    print(f"wrote {prior.folder / 'quality.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("fit_quality.py", main))
