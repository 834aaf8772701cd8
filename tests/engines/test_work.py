"""What becomes of one case, whatever process does it: errors are values."""

import shutil
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from nisf.cli.progress import outcome
from nisf.engines import do_case
from nisf.engines import work as module
from nisf.engines.work import Result
from nisf.files import replacing
from nisf.interrupts import listen, restore
from nisf.io.readers import open_cohort
from nisf.outputs import Made, read_part, recorded


def test_a_case_is_written_once(files, tiny, work):
    told = []
    first = do_case(files[0], tiny, work, told.append)
    assert (first.state, first.error, first.done) == ("written", "", True)
    assert first.summary["region"]
    assert told[0] == "reading"
    assert set(first.stages) >= {"reading", "rendering", "writing"}
    assert first.seconds > 0
    assert first.cpu_s > 0
    again = do_case(files[0], tiny, work)
    assert (again.state, again.summary, again.done) == ("kept", {}, True)


def test_a_turned_stack_is_told(files, tiny, work, monkeypatch):
    segment_case = module.segment_case

    def turned(*arguments, **options):
        return segment_case(*arguments, **options).noted(summary={"region": "whole", "turned": "mirrored"})

    monkeypatch.setattr(module, "segment_case", turned)
    found = do_case(files[0], tiny, work)
    assert found.summary["turned"] == "mirrored"
    assert "it was mirrored to match the training images" in found.notes["turned"]
    said = "segmented in 1.0 s, anatomy assumed anywhere in the image, mirrored"
    assert outcome(found.summary, 1.0) == said


def test_a_writer_that_was_not_asked_before_is_run_alone(files, tiny, work):
    assert do_case(files[0], tiny, replace(work, measures=False)).state == "written"
    assert read_part(work.folder, files[0].name, "measures") is None
    assert do_case(files[0], tiny, work).state == "kept"
    assert read_part(work.folder, files[0].name, "measures") is not None


def test_measures_of_an_earlier_input_do_not_stay(many, tiny, work, tmp_path):
    """Without measures, those of the new input are unknown; another's would look like its own."""
    name = "phantom0000"
    case = tmp_path / "mine" / name
    shutil.copytree(many / name, case)
    files = open_cohort(case.parent, tiny.anatomy, labels=False).cases[0]
    assert do_case(files, tiny, replace(work, seg_nrrd="all")).state == "written"
    drawing = work.folder / f"{name}.png"
    drawn = recorded(work.folder, name, "render .png", Made(prior=tiny.fingerprint))
    with drawn, replacing(drawing) as draft:
        draft.write_bytes(b"drawn")
    quiet = replace(work, measures=False)
    assert do_case(files, tiny, replace(quiet, overwrite=True)).said == ()  # the same input again
    assert (work.folder / f"{name}.measures.json").exists()

    path = case / "sa.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine, image.header), path)
    again = do_case(files, tiny, quiet)
    assert again.state == "written"
    assert f"removed {name}.measures.json" in again.said[-1]
    assert not list(work.folder.glob(f"{name}*.seg.nrrd"))
    assert read_part(work.folder, name, "measures") is None
    assert drawing.exists()  # by another command, which a person may run again


def test_what_goes_wrong_is_a_value(files, tiny, work, monkeypatch):
    damaged = do_case(files[3], tiny, work)
    assert (damaged.state, damaged.done) == ("failed", False)
    assert "sa.nii.gz" in damaged.error
    monkeypatch.setattr(module, "segment_case", _raising(MemoryError("Unable to allocate 5.0 GiB")))
    lacking = do_case(files[0], tiny, work)
    assert lacking.error.startswith("needs about 5.4 GB at once; give less working memory")
    assert "--memory-mb" in lacking.error
    monkeypatch.setattr(module, "segment_case", _raising(ZeroDivisionError("never seen")))
    assert do_case(files[0], tiny, work).error == "ZeroDivisionError: never seen"
    assert not list(work.folder.glob("*")) if work.folder.exists() else True


HOLDER = """
import sys
from nisf.outputs import claimed
with claimed(*sys.argv[1:]):
    print("held", flush=True)
    input()
"""


def test_a_case_that_another_process_writes_is_left_to_it(files, tiny, work):
    command = [sys.executable, "-c", HOLDER, str(work.folder), files[0].name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        found = do_case(files[0], tiny, work)
        holder.communicate("\n")
    assert (found.state, found.error, found.done) == ("busy", "", False)
    assert not work.folder.exists()
    assert do_case(files[0], tiny, work).state == "written"


def test_an_interrupt_is_no_value(files, tiny, work, monkeypatch):
    """Also one that a library turned into another error."""
    monkeypatch.setattr(module, "segment_case", _raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        do_case(files[0], tiny, work)

    def lost(*_, **__):
        import os
        import signal

        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ValueError("lost in a library") from None

    listen()
    try:
        monkeypatch.setattr(module, "segment_case", lost)
        with pytest.raises(KeyboardInterrupt):
            do_case(files[0], tiny, work)
    finally:
        restore()


def test_results_travel():
    from multiprocessing.reduction import ForkingPickler

    result = Result(
        "a", "failed", "why", ("x",), {"k": "n"}, {"region": "finder"}, 1.0, 0.5, stages={"reading": 1.0}
    )
    assert ForkingPickler.loads(ForkingPickler.dumps(result)) == result


def _raising(error):
    def work(*_, **__):
        raise error

    return work
