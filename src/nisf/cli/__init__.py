"""The command ``nisf``: each subcommand is a dataclass whose fields are its options, with a method `run`.

Nothing here imports numpy, torch or nibabel before a subcommand runs, so that ``nisf --help`` is immediate.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any, get_args

import tyro

from nisf.cli.check import Check
from nisf.cli.correct import Correct
from nisf.cli.demo import Demo
from nisf.cli.doctor import Doctor
from nisf.cli.evaluate import Evaluate
from nisf.cli.export import Export
from nisf.cli.help import tidy_help
from nisf.cli.info import Info
from nisf.cli.measure import Measure
from nisf.cli.mesh import Mesh
from nisf.cli.models import Models
from nisf.cli.paper import Paper
from nisf.cli.phantom import Phantom
from nisf.cli.render import Render
from nisf.cli.report import Report
from nisf.cli.segment import Segment
from nisf.cli.settings import Settings
from nisf.cli.train import Train
from nisf.cli.view import View
from nisf.errors import BadSettingError, NisfError, exit_status
from nisf.outputs.provenance import COMMAND, commit

Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Segment, tyro.conf.subcommand("segment")]
    | Annotated[Correct, tyro.conf.subcommand("correct")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
    | Annotated[Mesh, tyro.conf.subcommand("mesh")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Settings, tyro.conf.subcommand("settings")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Paper, tyro.conf.subcommand("paper")]
    | Annotated[Phantom, tyro.conf.subcommand("phantom")]
)

ALIASES = {"-o": "--output", "-p": "--predictions", "-s": "--set"}
"""Short options of the subcommands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the subcommand, and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)

    def run() -> int:
        if arguments == ["--version"]:
            from nisf import __version__

            found = commit()
            print(f"nisf {__version__}" + (f" ({found})" if found else ""))
            return 0
        command = parsed(arguments)
        try:
            return command.run()
        except NisfError as error:
            error.offer(option_names(command))
            raise

    token = COMMAND.set(tuple(arguments))
    try:
        return exit_status("nisf", run)
    finally:
        COMMAND.reset(token)


def parsed(arguments: Sequence[str]) -> Command:
    """Parse the arguments to a subcommand with its options, without running it.

    Raises:
        BadSettingError: an option is given twice.
        SystemExit: the arguments cannot be parsed, or ask for help.
    """
    refuse_repeated(arguments)
    for kind, subcommand in map(get_args, get_args(Command)):
        if arguments and arguments[0] == subcommand.name:
            tidy_help(kind)
    return tyro.cli(
        Command,
        prog="nisf",
        description="Continuous segmentation of medical image volumes with neural implicit functions.",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )


def option_names(command: Any) -> set[str]:
    """Names of a subcommand's options, including those of nested groups of options."""
    values = {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}
    nested = (option_names(value) for value in values.values() if dataclasses.is_dataclass(value))
    return set(values).union(*nested)


def refuse_repeated(arguments: Sequence[str]) -> None:
    """Reject options given twice, because the parser would silently ignore the first.

    Raises:
        BadSettingError: an option is given twice, possibly by its short name.
    """
    seen = set()
    for argument in arguments:
        option = ALIASES.get(argument, argument.partition("=")[0])
        if option.startswith("--") and option in seen:
            raise BadSettingError(f"{option}: given twice; give it once, followed by all its values")
        seen.add(option)
