import ast
import copy
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import nisf
from nisf.cli import main
from nisf.errors import (
    BadFileError,
    BadSettingError,
    CannotFitError,
    NisfError,
    NoSuchModelError,
    exit_status,
    out_of_memory,
    told,
)

KINDS = (BadFileError, BadSettingError, CannotFitError, NoSuchModelError)
SOURCE = Path(__file__).parents[1] / "src" / "nisf"


def test_success_is_handed_on(capsys):
    assert exit_status("x", lambda: 0) == 0
    assert exit_status("x", lambda: 1) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (NisfError("a.nii: is empty; copy it again"), 2, "x: a.nii: is empty; copy it again\n"),
        (BadFileError("a.nii: is empty"), 2, "x: a.nii: is empty\n"),
        (CannotFitError("a: give its centre", options=["centre"]), 2, "x: a: give its centre (--centre)\n"),
        (KeyboardInterrupt(), 130, "x: interrupted; what was finished is kept\n"),
    ],
)
def test_one_sentence(error, status, said, capsys):
    def run():
        raise error

    assert exit_status("x", run) == status
    assert capsys.readouterr().err == said


def test_what_is_our_fault_is_told_in_a_line_and_shown_where_asked_for(capsys, monkeypatch):
    assert exit_status("x", lambda: 1 // 0) == 1
    said = capsys.readouterr().err
    assert said.startswith("x: failed unexpectedly (ZeroDivisionError: ")
    assert said.count("\n") == 1
    monkeypatch.setenv("NISF_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        exit_status("x", lambda: 1 // 0)


def test_memory_that_is_not_there(capsys):
    for ask in (lambda: np.empty(10**15), lambda: torch.empty(10**15), lambda: bytearray(10**15)):
        assert exit_status("x", ask) == 1
        assert capsys.readouterr().err.startswith("x: needs ")
    found = out_of_memory(MemoryError("Unable to allocate 7.11 PiB for an array"))
    assert told(found).startswith("needs about 8005 TB at once; ")
    assert "--memory-mb" in told(found)
    assert out_of_memory(RuntimeError("shapes differ")) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_ends_nothing(tmp_path):
    code = (
        "import sys, pathlib; from nisf.errors import exit_status\n"
        "def run():\n"
        "    for n in range(3): print('x' * 9000, flush=True)\n"
        "    pathlib.Path(sys.argv[1]).write_text('done'); return 0\n"
        "sys.exit(exit_status('x', run))"
    )
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a")],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, (tmp_path / "a").read_text()) == (1, "done")
    assert b"output could not be written" in ended.stderr
    assert ended.stderr.count(b"\n") == 1


SLEEPY = """
import sys, time
from nisf.errors import exit_status
def run():
    print("ready", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise RuntimeError("what a library makes of it") from None
sys.exit(exit_status("x", run))
"""


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, b"interrupted"), (signal.SIGTERM, b"terminated")]
)
def test_a_signal_ends_in_one_line_whatever_became_of_it(number, word):
    command, pipe = [sys.executable, "-c", SLEEPY], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert error == b"x: " + word + b"; what was finished is kept\n"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_by_one_name_and_alone(kind):
    assert getattr(nisf, kind.__name__) is kind
    with pytest.raises(nisf.NisfError):
        raise kind("a: is wrong")
    assert not any(issubclass(kind, other) for other in KINDS if other is not kind)


def test_options_are_told_as_flags_and_are_no_part_of_the_sentence():
    error = BadSettingError("a: nothing to fit", options=("shifts", "memory_mb"))
    assert str(error) == "a: nothing to fit"
    assert error.options == ("shifts", "memory_mb")
    assert told(error) == "a: nothing to fit (--shifts, --memory-mb)"
    assert told(BadSettingError("a: nothing to fit")) == "a: nothing to fit"


def test_options_outlive_copies_and_other_processes():
    error = CannotFitError("a: no slice", options=["centre"])
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is CannotFitError
        assert told(same) == "a: no slice (--centre)"


def wrapped(cause: Exception, *, options: tuple[str, ...] = ()) -> NisfError:
    """What a caller sees of an error that was raised from another."""
    try:
        raise CannotFitError(f"b: {cause}", options=options) from cause
    except NisfError as error:
        return error


def test_options_outlive_being_raised_from():
    inner = BadSettingError("a: no such layout", options=["layout"])
    assert told(wrapped(inner)) == "b: a: no such layout (--layout)"
    assert told(wrapped(wrapped(inner))) == "b: b: a: no such layout (--layout)"
    assert told(wrapped(inner, options=("prior",))) == "b: a: no such layout (--prior)"
    assert told(wrapped(OSError("full"))) == "b: full"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", ".", "--anatomy", "spleen"], "nisf: spleen: no such anatomy; give one of .* theirs"),
        (["train", ".", "-o", "out", "--preset", "huge"], "nisf: huge: no such preset; there are .*"),
        (["train", ".", "-o", "out", "--layout", "minc"], "nisf: minc: no such layout; give one of .*"),
    ],
)
def test_commands_name_the_option(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert re.fullmatch(rf"{said} \({words[-2]}\)\n", capsys.readouterr().err)


def sentences(path: Path) -> list[str]:
    """Texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # A text that stands alone documents what it stands in, or the name above it.
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


LIBRARY = [path for path in sorted(SOURCE.rglob("*.py")) if "cli" not in path.relative_to(SOURCE).parts]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_library_speaks_of_no_flag(path):
    # What is a flag and nothing else is said to another program, e.g. git.
    assert not [text for text in sentences(path) if re.search(r"--[a-z]", text) and not text.startswith("--")]


def test_flags_are_found_in_sentences_alone(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('"""Has --this."""\nX = 1  # and --that\n"""Or --these."""\nY = f"give --those {X}"\n')
    assert sentences(path) == ["give --those "]


def test_options_that_a_command_lacks_are_not_advised():
    error = BadFileError("a: is in the way", options=["overwrite", "output"])
    error.offer({"output", "prior"})
    assert told(error) == "a: is in the way (--output)"
    outer = wrapped(BadFileError("a: is in the way", options=["overwrite"]))
    outer.offer({"output"})
    assert told(outer) == "b: a: is in the way"


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_code_of_an_extension_module_ends_with_our_status(number, tmp_path):
    """As a module, which is how Python ends by SIGINT if it noted an interrupt."""
    code = f"""
import ctypes, os, sys
from nisf.errors import exit_status

def run():
    ask = ctypes.pythonapi.PyRun_String
    ask.argtypes, ask.restype = [ctypes.c_char_p, ctypes.c_int, *2 * [ctypes.py_object]], ctypes.py_object
    ask(b"os.kill(os.getpid(), {int(number)})\\nwhile True: pass", 257, {{"os": os}}, {{}})
    return 0

sys.exit(exit_status("nisf", run))
"""
    (tmp_path / "interrupted.py").write_text(code)
    command = [sys.executable, "-m", "interrupted"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert found.returncode == 128 + number
    assert found.stderr.startswith("nisf: ")
