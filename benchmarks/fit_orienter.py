"""Train the orienter of a prior: writes ``orienter.safetensors`` into the prior's folder.

    python benchmarks/fit_orienter.py PRIOR --data COHORT -o OUT [--everyone] [--steps N] [--seed N]

A file without a patient orientation may be stored in eight in-plane orientations. A prior with an
orienter turns such files to the orientation of the cases of COHORT, which must be that of its training
cases. The orienter is trained on the labelled cases whose number is not divisible by five, or on all of
them with ``--everyone`` (for a prior that was trained on all). OUT keeps the state of the training, so
that an interrupted run resumes. The orienter belongs to the prior's weights: retrain it when they change.
Evaluate it with ``turned.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common import prior_parser
from nisf.config.overrides import to_dict
from nisf.data.case import Case
from nisf.errors import CannotFitError, exit_status
from nisf.io.readers import CaseReader, open_cohort
from nisf.kinds.load import load_prior
from nisf.networks.orienter import FILE, write_orienter
from nisf.networks.orienter_training import train_orienter
from nisf.training.search import FinderCheckpoint
from train_models import kept_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, train the orienter and write it into the prior."""
    parser = prior_parser(__doc__)
    parser.add_argument("--everyone", action="store_true")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    prior = load_prior(options.prior)
    if prior.half is None or not prior.anatomy.turn or prior.folder is None:
        raise CannotFitError(
            f"{options.prior}: looks at the whole field of view, or at files that are stored one way; there "
            "is nothing to be turned"
        )
    found = open_cohort(options.data, prior.anatomy)
    names = [files.name for files in found.cases]
    out = set() if options.everyone else set(kept_out(names))
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = [files for files in found.cases if files.name not in out]
    train = replace(prior.config.train, steps=options.steps, seed=options.seed)
    settings = to_dict(replace(prior.config, train=train))
    identity = {"config": settings, "cases": [files.name for files in chosen]}
    keeper = FinderCheckpoint(
        options.output / "orienter-training.safetensors", identity, print, _said, "orienter"
    )
    cases = [case for _, case in CaseReader(found, prior.anatomy, chosen) if isinstance(case, Case)]
    orienter = train_orienter(cases, prior.half, steps=options.steps, seed=options.seed, keeper=keeper)
    if orienter is None:
        raise CannotFitError(f"{options.data}: no slice is labelled; give the data the prior was trained on")
    write_orienter(prior.folder / FILE, orienter, prior.fingerprint)
    print(f"{prior.folder / FILE}: trained on {len(cases)} cases in {options.steps} steps")
    return 0


def _said(what: str, step: int, steps: int) -> None:
    if step % 100 == 0 or step == steps:
        print(f"{what}: step {step} of {steps}", flush=True)


if __name__ == "__main__":
    raise SystemExit(exit_status("fit_orienter.py", main))
