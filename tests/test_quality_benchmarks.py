"""What a light is learnt from and judged by: spoilt and wrong inputs, and the commands run to their end."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import toys
from nisf.kinds.load import load_prior

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def picture():
    from corrupted import picture_of

    grid = toys.toy_grid((48, 40, 8))
    return picture_of(toys.toy_case(1, grid))


def test_every_way_of_spoiling_gives_a_case(picture):
    from corrupted import SPOILT
    from wrong_inputs import WRONG

    for ways in (SPOILT, WRONG):
        for name, spoil in ways.items():
            out = spoil(picture, np.random.default_rng(3))
            assert out.image.shape == out.label.shape, name
            assert np.isfinite(out.image).all(), name
            case = out.case(toys.ANATOMY)
            assert case is not None, name
            same = out.image.shape == picture.image.shape and np.array_equal(out.image, picture.image)
            assert not same or not np.array_equal(out.spacing, picture.spacing), name


def test_spoilt_images_keep_the_labels_where_they_are_seen(picture):
    from corrupted import cropped, half_gone, reordered

    order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
    out = reordered(picture, order)
    blood = [np.median(p.image[p.label == 1]) for p in (picture, out)]
    assert blood[0] == blood[1]
    gone = half_gone(picture, 0.0, 0.0)
    assert (gone.label == picture.label).all()
    assert (gone.image[picture.label > 0] == 0).mean() == pytest.approx(0.5, abs=0.1)
    part = cropped(picture, 0, True, 0.0)
    assert part.image.shape[0] < picture.image.shape[0]
    assert part.label.shape == part.image.shape


def test_what_was_erased_is_not_there(picture):
    from corrupted import flat_middle
    from wrong_inputs import out_of_view, time_as_z, two_hearts

    rng = np.random.default_rng(0)
    assert not flat_middle(picture, 5, rng).label.any()
    assert not out_of_view(picture, rng).label.any()
    assert time_as_z(picture, rng).image.shape == (48, 40, 16, 1)
    twice = two_hearts(picture, rng)
    assert (twice.label == 1).sum() == 2 * (picture.label == 1).sum()


def test_dice_counts_what_lies_outside_the_region(picture):
    from fit_quality import dice_of
    from nisf.quality.sampling import Places

    grid = toys.toy_grid((48, 40, 8))
    whole = Places((0, 0), (1, 1), (48, 40), grid, np.zeros((48, 40), dtype=bool))
    perfect = dice_of(picture.label[..., 0], picture, 0, whole, 3)
    assert perfect == [1.0, 1.0]
    half = Places((0, 0), (1, 1), (24, 40), grid, np.zeros((24, 40), dtype=bool))
    found = dice_of(picture.label[:24, ..., 0], picture, 0, half, 3)
    assert found[0] == pytest.approx(2 * 0.5 / 1.5, abs=0.05)


@pytest.fixture
def toy_data(monkeypatch, toy_image_prior, tmp_path):
    """Twelve toys for patients, and the toy prior in a folder of its own."""
    import fit_quality
    import quality

    names = [*(f"patient{n:03d}" for n in range(1, 11)), "patient020", "patient045"]
    files = [SimpleNamespace(name=name) for name in names]
    for module in (fit_quality, quality):
        monkeypatch.setattr(module, "open_cohort", lambda *_: SimpleNamespace(cases=files))
        monkeypatch.setattr(module, "read_case", lambda one, _: toys.toy_case(int(one.name[-3:])))
    return str(toy_image_prior.save(tmp_path / "prior").folder)


@pytest.mark.slow
def test_learnt_and_judged(toy_data, tmp_path, capsys, monkeypatch):
    import fit_quality
    import quality
    from nisf.prior.fit import fit
    from nisf.quality.judge import judge

    out = tmp_path / "out"
    command = [toy_data, "--data", "data", "-o", str(out), "--good", "5", "--spoilt", "14"]
    assert fit_quality.main(command) == 0
    said = capsys.readouterr().out
    assert "good and spoilt: " in said
    rows = (out / "rows.jsonl").read_text().split("\n\n")
    assert len(rows) == 5 + 14
    assert not any(name in "".join(rows) for name in fit_quality.JUDGED)
    first = (Path(toy_data) / "quality.json").read_text()
    # Broken off in the last line: only that one is made again, and nothing else changes.
    whole = (out / "rows.jsonl").read_text()
    (out / "rows.jsonl").write_text(whole[:-40])
    monkeypatch.setattr(fit_quality.Item, "made", _counted(fit_quality.Item.made, made := []))
    assert fit_quality.main(command) == 0
    assert len(made) == 1
    assert (Path(toy_data) / "quality.json").read_text() == first
    # After a training the old file is of other weights, and is learnt anew from what was gathered.
    (Path(toy_data) / "quality.json").write_text(first.replace('"prior": "', '"prior": "x'))
    assert fit_quality.main(command) == 0
    assert (Path(toy_data) / "quality.json").read_text() == first
    prior = load_prior(toy_data)
    case = toys.toy_case(70)
    assert judge(fit(case, prior), case).mean > 0.5

    monkeypatch.setattr(quality, "WRONG", dict(list(quality.WRONG.items())[:3]))
    assert quality.main(["wrong", "data", toy_data, "-o", str(out)]) == 0
    table = (out / "wrong.csv").read_text().splitlines()
    assert len(table) == 1 + 2 * 4  # two patients, as they are and spoilt in three ways
    assert "red or refused: " in capsys.readouterr().out
    monkeypatch.setattr(quality, "cases_of", lambda *_: [toys.toy_case(71), toys.toy_case(72)])
    assert quality.main(["cohort", "data", toy_data, "-o", str(out)]) == 0
    assert "CPU seconds a frame" in capsys.readouterr().out
    assert len((out / "cohort.csv").read_text().splitlines()) == 3


def _counted(function, calls):
    def counted(self, prior):
        calls.append(self.name)
        return function(self, prior)

    return counted


def test_a_prior_without_an_appendix(toy_data, tmp_path):
    import quality

    with pytest.raises(quality.BadSettingError, match=r"no quality\.json"):
        quality.main(["wrong", "data", toy_data, "-o", str(tmp_path / "out")])
