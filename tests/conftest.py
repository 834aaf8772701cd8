import hypothesis
import pytest
import torch
from jaxtyping import install_import_hook

# Before anything of ours is imported: every shape and type in a signature is checked at run time.
install_import_hook("nisf", "checker.check")

hypothesis.settings.register_profile("nisf", deadline=None, max_examples=20, derandomize=True, database=None)
hypothesis.settings.load_profile("nisf")


LONGEST = ("test_docs.py", "test_paper.py", "test_benchmarks.py")
"""Files that take minutes: begun first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others stay in order."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # The toys are so small that threads only wait for each other, above all on a busy machine.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_cohort():
    """Six toy subjects."""
    import toys

    return toys.toy_cohort(6)


@pytest.fixture(scope="session")
def toy_prior(toy_cohort, tmp_path_factory):
    """A prior trained on the toy cohort for a few seconds."""
    import toys

    folder = tmp_path_factory.mktemp("toy") / "prior"
    return toys.train_toy(folder, toys.CONFIG, toy_cohort, [])


@pytest.fixture(scope="session")
def toy_image_prior(toy_cohort, tmp_path_factory):
    """An image-conditioned prior trained on the toy cohort for a few seconds."""
    import toys

    folder = tmp_path_factory.mktemp("toy-image") / "prior"
    return toys.train_toy(folder, toys.IMAGE, toy_cohort, [])


@pytest.fixture(scope="session")
def toy_fitted(toy_prior):
    """A subject that the toy prior has not seen, fitted."""
    import toys
    from nisf.prior.fit import fit

    return fit(toys.toy_case(99), toy_prior)
