"""``nisf paper``: the paper's experiments on any cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

Choice = Literal[
    "table1", "fig2", "fig3", "fig4", "slices", "planes", "resolution", "sparse", "ablations", "all"
]


@dataclass(frozen=True)
class Paper:
    """Run the experiments of the NISF paper, and some that it lacks, on a cohort.

    Every 5th case is a test subject. Writes CSV files, figures (PDF and PNG) and summary.html. Results that
    are already in the output folder are reused, so an interrupted run can be continued.
    """

    experiment: Positional[Choice]
    """table1 (Dice beside the paper's), fig2 (Dice against inference steps), fig3 (stages of training), fig4
    (held-out slices), slices (how many are given), planes (long-axis views), resolution, sparse (training on
    part of the data), ablations, or all."""
    data: Path
    """Folder of the cohort."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """Folder to write results to."""
    budget: Literal["minutes", "hours", "paper"] = "hours"
    """Size of the experiments: minutes only shows that everything runs, hours suits two cores, paper uses the
    paper's numbers and needs a GPU."""
    test: int | None = None
    """Maximum number of test subjects; by default that of the budget."""
    use: Annotated[tuple[str, ...], arg(metavar="KIND=PRIOR ...")] = ()
    """Already trained priors that have not seen the test subjects: image=NAME paper=FOLDER unet=FOLDER
    base=FOLDER (the prior that ablations and sparse vary)."""
    anatomy: str = "cardiac-sax"
    """Anatomy: a name or a JSON file."""
    layout: str = "auto"
    """Folder layout of the cases; auto detects it."""
    device: str = "cpu"
    """Device to train priors and the U-Net on: cpu, cuda or cuda:NUMBER. Subjects are fitted on the CPU."""
    estimate: bool = False
    """Print the expected time and stop."""
    overwrite: bool = False
    """Replace existing files even if nisf did not write them."""

    def run(self) -> int:
        from nisf.outputs import recorded
        from nisf.paper import EXPERIMENTS, PAGES
        from nisf.paper.results import SUMMARY

        chosen = EXPERIMENTS if self.experiment == "all" else [self.experiment]
        pages = [page for page in PAGES if page.removesuffix("-slices") in chosen]
        endings = ("csv", "json", "pdf", "png")
        planned = [SUMMARY, *(f"{page}.{ending}" for page in pages for ending in endings)]
        # Locks the folder, and protects files that nisf did not write.
        with recorded(self.output, "", "paper", planned=planned, goes_on=True, overwrite=self.overwrite):
            return self.run_experiments()

    def run_experiments(self) -> int:
        """Run the chosen experiments; returns the exit status."""
        from nisf.data.anatomy import load_anatomy
        from nisf.device import named_device
        from nisf.errors import BadSettingError
        from nisf.paper import EXPERIMENTS, PAGES
        from nisf.paper.budget import budget
        from nisf.paper.estimate import jobs
        from nisf.paper.results import write_summary
        from nisf.paper.study import Study

        reuse, device = self.reused(), named_device(self.device)
        chosen = list(EXPERIMENTS) if self.experiment == "all" else [self.experiment]
        study = Study(
            self.data,
            self.output,
            load_anatomy(self.anatomy),
            budget(self.budget, self.test),
            layout=self.layout,
            reuse=reuse,
            device=device,
        )
        for name, folder in reuse.items():
            if not study.trained(name):
                what = "U-Net" if name == "unet" else "prior"
                raise BadSettingError(f"{folder}: contains no trained {what}", options=["use"])
        counts = ", ".join(f"{len(files)} {part}" for part, files in study.files.items())
        print(f"{counts} subjects; budget {self.budget}")
        work = jobs(study, chosen)
        for group in dict.fromkeys(job.group for job in work):
            left = [job for job in work if job.group == group and job.seconds]
            names = f": {', '.join(job.what for job in left)}" if group == "priors" and left else ""
            print(f"{_words(sum(job.seconds for job in left)):>8s}  {group}{names}")
        print(f"{_words(sum(job.seconds for job in work)):>8s}  in total, estimated", flush=True)
        if self.estimate:
            return 0
        for name in chosen:
            print(f"{name}: {EXPERIMENTS[name].title}", flush=True)
            result = EXPERIMENTS[name].run(study)
            page = write_summary(self.output, PAGES)
            if result is not None:
                print(f"{name}: {result.line}", flush=True)
        print(f"wrote {page}")
        return 0

    def reused(self) -> dict[str, Path]:
        """``--use`` as folders by name.

        Raises:
            BadSettingError: not of the form name=folder, or not a prior of the experiments.
        """
        from nisf.errors import BadSettingError

        reuse = {}
        for text in self.use:
            name, equals, folder = text.partition("=")
            if not equals or name not in ("paper", "image", "unet", "base"):
                raise BadSettingError(f"--use {text}: write paper=, image=, unet= or base= and a folder")
            reuse[name] = Path(folder)
        return reuse


def _words(seconds: float) -> str:
    """A duration, roughly, in words."""
    if seconds == 0:
        return "done"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
