"""Dice and intensity loss against iterations, far beyond convergence: Adam and second order.

    python benchmarks/fit_curve.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N] [--steps 2000]
                                   [--iterations 200] [--set fit.prior_strength=0.1 ...]

The curves of `nisf paper fig2`, for any prior, subjects and settings. OUT gets ``curve.json`` and
``curve.png``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from common import cohort_parser
from nisf.config.overrides import override
from nisf.errors import exit_status
from nisf.files import replacing
from nisf.kinds.latent.model import LatentPrior
from nisf.paper.fig2 import curves, picture
from nisf.picture import save_figure
from workloads import points_of, prior_of_kind


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, fit, print and draw."""
    parser = cohort_parser(__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--set", nargs="*", action="extend", default=[])
    chosen = parser.parse_args(arguments)
    prior = prior_of_kind(chosen.prior, LatentPrior)
    prior = replace(prior, config=override(prior.config, chosen.set))
    cases = points_of(chosen.cohort, prior, chosen.only, chosen.cases)
    found = curves(prior, cases, chosen.steps, chosen.iterations)
    with replacing(chosen.output / "curve.json") as path:  # NaN where no case has a structure
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    save_figure(picture(found, prior.config.fit.steps), chosen.output / "curve.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("fit_curve.py", main))
