"""Retrain the finder of a prior and leave everything else unchanged.

    python benchmarks/fit_finder.py PRIOR --data COHORT -o OUT [--everyone] [--steps N] [--seed N]

The finder is the network that finds the region of a case without labels: the tensors ``finder.*`` of the
prior's weights. It is trained on the labelled cases of the cohort whose number is not divisible by five,
or on all of them with ``--everyone`` (for a prior that was trained on all). OUT/prior is the complete new
prior, including the appendices, which belong to the unchanged segmentation network. An interrupted run
resumes. Evaluate the result with ``found.py`` and ``quality.py wrong``.
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
from nisf.networks.finder_training import train_finder
from nisf.optimisation.checkpoint import write_checkpoint
from nisf.prior.region_search import RegionSearch
from nisf.training.search import FinderCheckpoint, least_certain, search_in, search_tensors
from train_models import kept_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, train the finder and write the prior."""
    parser = prior_parser(__doc__)
    parser.add_argument("--everyone", action="store_true")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    prior = load_prior(options.prior)
    if prior.half is None:
        raise CannotFitError(f"{options.prior}: looks at the whole field of view, and finds no region in it")
    found = open_cohort(options.data, prior.anatomy)
    names = [files.name for files in found.cases]
    out = set() if options.everyone else set(kept_out(names))
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = [files for files in found.cases if files.name not in out]
    region = replace(prior.config.region, finder_steps=options.steps)
    config = replace(prior.config, region=region, train=replace(prior.config.train, seed=options.seed))
    identity = {"config": to_dict(config), "cases": [files.name for files in chosen]}
    keeper = FinderCheckpoint(options.output / "finder.safetensors", identity, print, _said)
    search = search_in(keeper.path) if keeper.path.is_file() else None
    if search is None:
        cases = [case for _, case in CaseReader(found, prior.anatomy, chosen) if isinstance(case, Case)]
        finder = train_finder(cases, steps=options.steps, seed=options.seed, keeper=keeper)
        if finder is None:
            raise CannotFitError(
                f"{options.data}: no slice is labelled; give the data it is to be trained on"
            )
        search = RegionSearch(prior.half, finder, least_certain(cases, finder))
        write_checkpoint(keeper.path, search_tensors(search), identity)
    # What is asked for stays, unless it would refuse what the finder was trained on.
    asked = prior.config.region.certain
    certain = asked if 0 < asked <= 2 * search.certain else round(search.certain, 3)
    region = replace(region, certain=certain)
    card = {**prior.card, "finder": {"subjects": len(chosen), "steps": options.steps, "seed": options.seed}}
    made = replace(prior, finder=search.finder, config=replace(prior.config, region=region), card=card)
    made.save(options.output / "prior")
    least = 2 * search.certain
    print(f"{options.output / 'prior'}: asks for a certainty of {certain:g}; a training case has {least:.2f}")
    return 0


def _said(what: str, step: int, steps: int) -> None:
    if step % 100 == 0 or step == steps:
        print(f"{what}: step {step} of {steps}", flush=True)


if __name__ == "__main__":
    raise SystemExit(exit_status("fit_finder.py", main))
