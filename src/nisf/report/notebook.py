"""A subject's display in a notebook: contact sheet, measures, warning light."""

from __future__ import annotations

from nisf.measures.case import measure
from nisf.quality.judgement import kept_judgement
from nisf.report.case_page import environment
from nisf.report.slices import Shown
from nisf.report.words import LIGHTS, rows_of
from nisf.subject.subject import Subject
from nisf.uncertainty.intervals import with_intervals

FEW_FRAMES = 4
"""Maximum number of frames for which measures are shown; more would take too long."""


def subject_html(subject: Subject) -> str:
    """HTML of a subject: slices at the first time, measures if it has few frames, warning light.

    Everything is escaped, and nothing is loaded from elsewhere.
    """
    judgement = kept_judgement(subject)
    light = None if judgement is None else (judgement, *LIGHTS[judgement.light])
    frames = len(subject.stacks[0].grid.times) if subject.stacks else 0
    few = 0 < frames <= FEW_FRAMES
    tables = rows_of(with_intervals(measure(subject), subject)) if few else {}
    sheet = Shown(subject, None, {}).contact_sheet() if subject.stacks else {}
    anatomy = subject.prior.anatomy
    return (
        environment()
        .get_template("notebook.html")
        .render(
            subject=subject,
            words="; ".join(stack.grid.words() for stack in subject.stacks) or "no stack",
            light=light,
            frames=frames,
            few=few,
            tables=tables,
            pictures=[picture for pictures in sheet.values() for picture in pictures],
            colours=dict(zip(anatomy.labels, anatomy.colours, strict=True)),
            legend=list(zip(anatomy.labels[1:], anatomy.colours[1:], strict=True)),
        )
    )
