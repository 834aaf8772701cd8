"""What is ours and what is not, and what a record says of it."""

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest

from nisf.errors import BadFileError
from nisf.files import remove_stale, replacing, write_json
from nisf.outputs import (
    BusyError,
    Made,
    claimed,
    read_part,
    read_record,
    record_path,
    recorded,
    refuse_to_replace,
)
from nisf.outputs.lock import locked
from nisf.outputs.recording import Writing


def write(folder, text="ours", name="a.txt", **options):
    with recorded(folder, "a", "part", planned=[name], **options) as part, replacing(folder / name) as draft:
        draft.write_text(text)
    return part


def test_what_was_written_is_recorded_and_ours(tmp_path):
    write(tmp_path)
    part = read_part(tmp_path, "a", "part")
    assert part.state == "done"
    assert part.files["a.txt"]["size"] == 4
    assert part.whole(tmp_path)
    assert {"nisf", "python"} <= set(part.versions)
    write(tmp_path, "anew")
    assert (tmp_path / "a.txt").read_text() == "anew"
    assert str(tmp_path) not in record_path(tmp_path, "a").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.run.json", "a.txt"]


def test_what_nisf_did_not_write_stays(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(BadFileError, match=r"a\.txt: was not written by nisf .* overwrite it"):
        write(tmp_path)
    # Also where nobody knew the name beforehand.
    with pytest.raises(BadFileError, match="not written by nisf"), recorded(tmp_path, "a", "part"):
        write_json(tmp_path / "a.txt", 1)
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert not record_path(tmp_path, "a").exists()
    assert write(tmp_path, overwrite=True).replaced == ["a.txt"]


def test_what_is_written_while_it_is_looked_for_is_not_refused(tmp_path, monkeypatch):
    """The order of events of two processes: one reads the record, the other writes it and the file."""
    look, looked = Writing.check, []

    def late(writing, names):
        looked.append(names)
        if len(looked) == 1:
            write(tmp_path)
        look(writing, names)

    monkeypatch.setattr(Writing, "check", late)
    refuse_to_replace(tmp_path, "a", "part", planned=["a.txt"])
    assert len(looked) > 2
    (tmp_path / "b.txt").write_text("mine")
    with pytest.raises(BadFileError, match=r"b\.txt: was not written by nisf"):
        refuse_to_replace(tmp_path, "a", "part", planned=["b.txt"])


def test_what_was_changed_afterwards_stays(tmp_path):
    write(tmp_path)
    (tmp_path / "a.txt").write_text("mend")
    os.utime(tmp_path / "a.txt", (1, 1))
    assert not read_part(tmp_path, "a", "part").whole(tmp_path)
    with pytest.raises(BadFileError, match="was changed after nisf wrote it"):
        write(tmp_path)
    assert read_part(tmp_path, "a", "part").state == "done"


def test_a_touched_or_copied_file_is_still_ours(tmp_path):
    write(tmp_path)
    os.utime(tmp_path / "a.txt", (1, 1))
    assert read_part(tmp_path, "a", "part").whole(tmp_path)
    write(tmp_path, "anew")


def test_a_link_is_not_ours(tmp_path):
    (tmp_path / "elsewhere").write_text("ours")
    write(tmp_path)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadFileError, match=r"a\.txt"):
        write(tmp_path, "anew")
    assert (tmp_path / "elsewhere").read_text() == "ours"


def test_equal_bytes_are_left_alone(tmp_path):
    (tmp_path / "a.txt").write_text("ours")
    os.utime(tmp_path / "a.txt", (1, 1))
    with recorded(tmp_path, "a", "part"), replacing(tmp_path / "a.txt") as draft:
        draft.write_text("ours")
    assert (tmp_path / "a.txt").stat().st_mtime == 1
    assert read_part(tmp_path, "a", "part").files == {}


def test_another_part_or_input_or_prior_is_refused(tmp_path):
    def state(place, content):
        return [{"place": place, "size": 1, "mtime_ns": 1, "sha256": content}]

    write(tmp_path, made=Made(state("here", "x"), "one"))
    with pytest.raises(BadFileError, match="was written by 'part'"), recorded(tmp_path, "a", "other"):
        write_json(tmp_path / "a.txt", 1)
    with pytest.raises(BadFileError, match="from another input of the name a"):
        write(tmp_path, made=Made(state("there", "y"), "one"))
    with pytest.raises(BadFileError, match="with another prior"):
        write(tmp_path, made=Made(state("here", "x"), "two"))
    write(tmp_path, made=Made(state("there", "x"), "one"))  # moved
    write(tmp_path, made=Made(state("there", "y"), "one"))  # changed where it lies
    write(tmp_path, made=Made(state("else", "z"), "two"), overwrite=True)


def test_nothing_leaves_the_folder(tmp_path):
    for path in (tmp_path / "x", tmp_path / "out" / ".." / "x"):
        outside = pytest.raises(BadFileError, match="outside the output folder")
        with outside, recorded(tmp_path / "out", "a", "part"):
            write_json(path, 1)
    assert not (tmp_path / "x").exists()


def test_an_unfinished_part_is_not_done_and_may_be_written_again(tmp_path):
    write(tmp_path)
    with suppress(KeyboardInterrupt), recorded(tmp_path, "a", "part", planned=["b.txt"]):
        write_json(tmp_path / "b.txt", 1)
        raise KeyboardInterrupt
    part = read_part(tmp_path, "a", "part")
    assert part.state == "writing"
    assert not part.whole(tmp_path)
    write(tmp_path)
    # What the part had before is gone, so that nothing of two runs is mixed.
    assert not (tmp_path / "b.txt").exists()


def test_files_of_the_part_before_are_removed_unless_somebody_changed_them(tmp_path):
    with recorded(tmp_path, "a", "part"):
        for name in ("b.txt", "c.txt"):
            write_json(tmp_path / name, name)
    (tmp_path / "c.txt").write_text("corrected")
    part = write(tmp_path)
    assert part.removed == ["b.txt"]
    assert (tmp_path / "c.txt").read_text() == "corrected"


def test_an_error_before_the_first_file_leaves_the_part_as_it_was(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="x"), recorded(tmp_path, "a", "part", planned=["a.txt"]):
        raise ValueError("x")
    assert read_part(tmp_path, "a", "part").whole(tmp_path)


def test_parts_inside_parts(tmp_path):
    with recorded(tmp_path, "a", "outer"):
        write_json(tmp_path / "o.json", 1)
        with recorded(tmp_path, "a", "inner"):
            write_json(tmp_path / "i.json", 1)
        write_json(tmp_path / "p.json", 1)
    parts = read_record(tmp_path, "a").parts
    assert {name: list(part.files) for name, part in parts.items()} == {
        "outer": ["o.json", "p.json"],
        "inner": ["i.json"],
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nisf_record": 1}', '{"nisf_record": 2}', "[" * 100_000])
def test_a_strange_record_is_refused(tmp_path, text):
    record_path(tmp_path, "a").write_text(text)
    with pytest.raises(BadFileError, match=r"a\.run\.json"):
        write(tmp_path)
    assert record_path(tmp_path, "a").read_text() == text
    write(tmp_path, overwrite=True)


HOLD = """
import sys
from nisf.outputs import claimed
from nisf.files import replacing
with claimed(sys.argv[1], "a"), replacing(sys.argv[1] + "/x.txt"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_killed_one_leaves_nothing(tmp_path):
    command, pipe = [sys.executable, "-c", HOLD, str(tmp_path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="another process is writing a"):
            write(tmp_path)
        remove_stale(tmp_path)
        assert len(list(tmp_path.glob(".writing-*"))) == 1  # it lives
        holder.kill()
    with claimed(tmp_path, "a"), claimed(tmp_path, "a"):
        pass
    remove_stale(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_last_thread_that_holds_a_lock_releases_it(tmp_path):
    first = locked(tmp_path, "a")
    first.__enter__()
    with locked(tmp_path, "a"):  # as another thread would
        first.__exit__(None, None, None)
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_record_has_no_paths(tmp_path):
    from nisf.outputs.provenance import reduced

    (tmp_path / "DOE^JOHN").mkdir()
    (tmp_path / "scan.nii.gz").touch()
    words = [
        "segment",
        f"{tmp_path}/DOE^JOHN",
        f"{tmp_path}/scan.nii.gz",
        f"--output={tmp_path}",
        "-s",
        "a.b=1",
    ]
    assert reduced(words) == ["segment", "FOLDER", "scan.nii.gz", "--output=FOLDER", "-s", "a.b=1"]
    write(tmp_path)
    assert json.loads(record_path(tmp_path, "a").read_text())["parts"]["part"]["command"] == []
