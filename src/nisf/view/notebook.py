"""The viewer in a notebook."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass

from nisf.data.case import Case
from nisf.errors import CannotFitError
from nisf.subject.subject import Subject
from nisf.view.static import static_page
from nisf.view.viewed import Viewed


def _nothing() -> None:
    """Nothing to close."""


@dataclass(frozen=True)
class Embedded:
    """What a notebook shows: the page itself, or a link to a server.

    Attributes:
        text: HTML.
        close: stops the server, if there is one.
    """

    text: str
    close: Callable[[], None] = _nothing

    def _repr_html_(self) -> str:
        return self.text


def embedded(
    subject: Subject, case: Case | None = None, *, most_mb: float = 15.0, height: int = 640
) -> Embedded:
    """The viewer's page of a subject, for a notebook.

    For subjects of the kind ``image``, the whole page is embedded, and keeps working in a saved notebook.
    Other subjects are served to this machine by a thread until `Embedded.close`, at a link with a secret
    token.

    Args:
        subject: to view.
        case: its measured slices, to be shown and stored in the notebook too.
        most_mb: maximum size of the page, MB.
        height: in pixels.

    Raises:
        BadSettingError: not even one phase fits into ``most_mb``.
    """
    viewed = Viewed(subject, case, "" if case is not None else "The scan's own pixels were not given.")
    try:
        page = static_page(viewed, most_mb, measured=case is not None).html
    except CannotFitError:
        return _served(viewed)
    # A sandbox: the page's script cannot access the notebook.
    return Embedded(
        f'<iframe srcdoc="{html.escape(page, quote=True)}" sandbox="allow-scripts allow-downloads" '
        f'style="width: 100%; height: {int(height)}px; border: 0" title="nisf view"></iframe>'
    )


def _served(viewed: Viewed) -> Embedded:
    """A link to a server that runs in a thread."""
    from nisf.view.library import Entry, Library
    from nisf.view.server import serve_in_thread
    from nisf.view.worker import Work

    def opened() -> Work:
        yield viewed

    host, token, end = serve_in_thread(Library([Entry(viewed.subject.name, opened)]))
    address = html.escape(f"http://{host}/?token={token}", quote=True)
    name = html.escape(viewed.subject.name)
    link = f'<a href="{address}" target="_blank" rel="noreferrer">Open the viewer of {name}</a>'
    return Embedded(link, end)
