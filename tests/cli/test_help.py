"""The help of the subcommands: whole sentences, placeholders, and what is required."""

import re
from typing import get_args

import pytest

from nisf.cli import Command, main

NAMES = [get_args(command)[1].name for command in get_args(Command)]


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def entry(text, option):
    """The lines of one option, joined to one."""
    lines = [line.strip("│ ") for line in text.splitlines()]
    start = next(k for k, line in enumerate(lines) if line.startswith(option))
    stop = next(k for k in range(start + 1, len(lines)) if re.match(r"-|╰|╭", lines[k]))
    return " ".join(" ".join(lines[start:stop]).split())


@pytest.mark.parametrize("name", NAMES)
def test_no_option_speaks_of_none(capsys, name):
    text = help_of(capsys, name)
    for unhelpful in ("None", "(default: )", "(default: False)"):
        assert unhelpful not in text


def test_a_list_of_inputs_is_required(capsys):
    assert "are expanded. (required)" in entry(help_of(capsys, "segment"), "INPUT")


def test_an_option_that_may_be_left_out_says_what_it_takes(capsys):
    text = help_of(capsys, "segment")
    assert entry(text, "--frames").startswith("--frames INT Number of")
    assert entry(text, "--spacing").startswith("--spacing TEXT Output spacing X,Y,Z in mm")
    assert entry(text, "--method").startswith("--method {adam,second-order} Optimiser")


def test_defaults_that_say_something_stay(capsys):
    text = help_of(capsys, "render")
    assert entry(text, "--memory-mb").endswith("Working memory for queries in MiB. (default: 512)")
    assert entry(text, "--device").endswith("cuda:NUMBER. (default: cpu)")


def test_placeholders_that_an_option_states_are_kept(capsys):
    assert "[STROKES.json] JSON file" in entry(help_of(capsys, "correct"), "[STROKES.json]")
    assert "--set NAME=VALUE ..." in help_of(capsys, "train")


def test_lines_of_the_source_are_joined(capsys):
    lines = help_of(capsys, "segment").splitlines()
    start = next(k for k, line in enumerate(lines) if "Also write DICOM SEG" in line)
    assert all(len(line.rstrip("│ ")) > 55 for line in lines[start : start + 5])
