"""A folder of measured cases, as tests write and read it."""

import csv

from nisf.measures.table import write_case


def add(tables, case):
    """Write a case's file and have the tables follow."""
    write_case(tables.folder, case)
    tables.note()


def read(path):
    """The rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
