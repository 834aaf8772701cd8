import pytest

import toys
from nisf.config.fit_options import FitOptions
from nisf.data.anatomy import load_anatomy
from nisf.engines import InProcess, Work
from nisf.io.readers import CaseReader, open_cohort
from nisf.kinds.load import load_prior
from nisf.phantom import Scanner, write_cohort
from nisf.segmentation import Request
from nisf.training.train import train

SMALL = Scanner(matrix=(32, 32), spacing_mm=6.0, thickness_mm=16.0, gap_mm=4.0, frames=3)


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Five small phantoms in a folder; the image of the fourth is cut off."""
    folder = tmp_path_factory.mktemp("many")
    write_cohort(folder, 5, seed=4, scanner=SMALL)
    image = folder / "phantom0003" / "sa.nii.gz"
    image.write_bytes(image.read_bytes()[:500])
    return folder


@pytest.fixture(scope="session")
def tiny(many, tmp_path_factory):
    """A prior of two steps."""
    anatomy = load_anatomy("cardiac-sax")
    cases = [case for _, case in CaseReader(open_cohort(many, anatomy), anatomy) if not isinstance(case, str)]
    folder = tmp_path_factory.mktemp("tiny") / "prior"
    train(cases, [], anatomy, toys.settings(toys.TINY, train={"steps": 2}), folder)
    return load_prior(folder)


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "out", Request(fit=FitOptions(steps=1)), memory_mb=128.0)


@pytest.fixture
def in_process(tiny, work):
    return InProcess(tiny, work)


@pytest.fixture(scope="session")
def files(many, tiny):
    return open_cohort(many, tiny.anatomy, labels=False).cases
