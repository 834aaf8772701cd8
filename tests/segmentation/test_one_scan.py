"""One scan by a single call in Python."""

import toys
from nisf.io.writers import write_volume
from nisf.quality.judgement import Judgement, kept_judgement
from nisf.segmentation.segment import segment


def test_it_is_judged_too(toy_image_prior, tmp_path, monkeypatch):
    """So that its intervals are those of the command."""
    case = toys.toy_case(95)
    write_volume(tmp_path / "scan.nii.gz", toys.image_of(case), case.stacks[0].grid)
    said = Judgement("red", {"blood": 0.4, "muscle": 0.6}, 0.5, ("odd",))
    monkeypatch.setattr("nisf.quality.judge.judge", lambda *_, **__: said)
    subject = segment(tmp_path / "scan.nii.gz", toy_image_prior.folder)
    assert kept_judgement(subject) == said
