"""Engines, which run the cases of a cohort in one process or in many."""

from nisf.engines.in_process import InProcess as InProcess
from nisf.engines.work import Engine as Engine
from nisf.engines.work import Result as Result
from nisf.engines.work import Tell as Tell
from nisf.engines.work import Work as Work
from nisf.engines.work import do_case as do_case
from nisf.engines.worker import Begin as Begin
from nisf.engines.workers import Workers as Workers
