"""The server: the page's own files, and one URL for each kind of request, answered with packets."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from nisf.errors import BadSettingError, NisfError, told
from nisf.view.guard import Admission, Guard, refused
from nisf.view.library import Library
from nisf.view.measured import measured_frame
from nisf.view.packets import Packet
from nisf.view.questions import PlaneQuestion, number, vector, whole
from nisf.view.strokes import strokes_work
from nisf.view.worker import Ended, Failed, Job, Work, Worker

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
MOST_BYTES = 1 << 16
"""Maximum size of a request."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")
"""Addresses that stand for all addresses of this machine."""


@dataclass(frozen=True)
class Verb:
    """A kind of request.

    Attributes:
        urgency: lower numbers are answered first.
        work: produces the answers to a request.
        channel: a newer request of the same page replaces older ones of the same channel; None if nothing is
            replaced.
    """

    urgency: int
    work: Callable[[Library, Mapping[str, Any]], Work]
    channel: Callable[[Mapping[str, Any]], str] | None = None


def _once(make: Callable[[Library, Mapping[str, Any]], Packet]) -> Callable[..., Work]:
    def work(library: Library, data: Mapping[str, Any]) -> Work:
        yield make(library, data)

    return work


def _viewed(library: Library, data: Mapping[str, Any]) -> Any:
    return library.viewed(whole(data, "case", 0, 10**6))


def _plane(library: Library, data: Mapping[str, Any]) -> Work:
    return _viewed(library, data).plane(PlaneQuestion.read(data))


def _spread(library: Library, data: Mapping[str, Any]) -> Work:
    return _viewed(library, data).spreads.plane(PlaneQuestion.read(data))


def _point(library: Library, data: Mapping[str, Any]) -> Work:
    return _viewed(library, data).point(vector(data, "position", 1e5), number(data, "time", 0, 1))


def _view(library: Library, data: Mapping[str, Any]) -> Work:
    return _viewed(library, data).view(str(data.get("name")), number(data, "time", 0, 1))


def _volume(library: Library, data: Mapping[str, Any]) -> Work:
    return _viewed(library, data).volume(number(data, "time", 0, 1))


def _measured(library: Library, data: Mapping[str, Any]) -> Packet:
    stack, frame = whole(data, "stack", 0, 10**3), whole(data, "frame", 0, 10**5)
    return measured_frame(_viewed(library, data), stack, frame)


VERBS: Mapping[str, Verb] = {
    "cases": Verb(0, _once(lambda library, _: Packet({"cases": library.names()}))),
    "open": Verb(0, lambda library, data: library.opening(whole(data, "case", 0, 10**6)), lambda _: "open"),
    "point": Verb(0, _point, lambda _: "point"),
    "measured": Verb(1, _once(_measured)),
    "curves": Verb(1, _once(lambda library, data: Packet(_viewed(library, data).background.curves()))),
    "findings": Verb(1, _once(lambda library, data: Packet(_viewed(library, data).findings.header()))),
    "strokes": Verb(1, strokes_work, lambda _: "strokes"),
    "plane": Verb(2, _plane, lambda data: f"plane {data.get('view')!s:.16}"),
    "view": Verb(2, _view),
    "spread": Verb(3, _spread, lambda data: f"spread {data.get('view')!s:.16}"),
    "volume": Verb(4, _volume, lambda _: "volume"),
    "later": Verb(6, _volume, lambda _: "later"),
}
"""Volumes at times other than the one on display are requested as ``later``."""
BACKGROUND = 5


class Viewer:
    """The web application and its worker.

    Args:
        library: the cases to view.
        page: the page's files by name; those of the package by default.
    """

    def __init__(self, library: Library, page: Mapping[str, bytes] | None = None) -> None:
        self.library, self.worker = library, Worker()
        # Read once: no request accesses the file system.
        self.page = page or {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in TYPES}
        self._number = 0

    def app(self, admission: Admission) -> ASGIApp:
        """The ASGI application."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            with self.worker:
                yield

        routes = [
            Route("/", self._file),
            Route("/page/{name}", self._file),
            Route("/api/{verb}", self._ask, methods=["POST"]),
        ]
        return Guard(Starlette(routes=routes, lifespan=lifespan), admission)

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self.page:
            return refused(404, "There is no such page.")
        return Response(self.page[name], media_type=TYPES[Path(name).suffix])

    async def _ask(self, request: Request) -> Response:
        verb = VERBS.get(request.path_params["verb"])
        if verb is None:
            return refused(404, "There is no such request.")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return refused(413, "The request is too long.")
        try:
            data = json.loads(body)
            if not isinstance(data, dict):
                raise BadSettingError("give an object")
            work = verb.work(self.library, data)
        except ValueError:
            return refused(400, "The request is not JSON.")
        except NisfError as error:
            return refused(400, told(error))
        return StreamingResponse(
            self._answers(request.path_params["verb"], verb, data, work),
            media_type="application/octet-stream",
        )

    async def _answers(
        self, name: str, verb: Verb, data: Mapping[str, Any], work: Work
    ) -> AsyncIterator[bytes]:
        """The packets of an answer, as they become available."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[object]()

        def deliver(answer: object) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, answer)

        self._number += 1
        channel = f"{name} {self._number}" if verb.channel is None else _of_page(data, verb.channel(data))
        job = self.worker.submit(channel, verb.urgency, work, deliver)
        try:
            while not isinstance(answer := await queue.get(), Ended):
                if isinstance(answer, Failed):
                    yield Packet({"error": answer.sentence}).encoded()
                elif isinstance(answer, Packet):
                    yield answer.encoded()
            if answer is Ended.DROPPED:
                yield Packet({"dropped": True}).encoded()
            elif name in ("open", "strokes"):
                self._work_ahead(data)
        finally:
            self.worker.drop(job)

    def _work_ahead(self, data: Mapping[str, Any]) -> Job | None:
        """Start on the islands, volumes and measures of a case that was just opened."""
        try:
            viewed = _viewed(self.library, data)
        except NisfError:
            return None
        return self.worker.submit(
            _of_page(data, "background"), BACKGROUND, viewed.work_ahead(), lambda _: None
        )


def _of_page(data: Mapping[str, Any], channel: str) -> str:
    """The channel of one page; pages in several tabs must not drop each other's jobs."""
    return f"{data.get('page', '')!s:.40} {channel}"


def bound(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        BadSettingError: the address or port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(64)
    except OSError as error:
        found.close()
        raise BadSettingError(
            f"{host}:{port}: cannot be used ({error.strerror}); choose another port", options=["port"]
        ) from error
    return found


def admission_for(host: str, port: int) -> Admission:
    """A fresh token, and the names that clients may use for a server at this address."""
    names, wild = {_in_url(host).lower()}, host in EVERYWHERE
    if wild or host in LOOPBACK:
        names |= {_in_url(name) for name in LOOPBACK}
    if wild:
        names |= {name.lower() for name in (socket.gethostname(), socket.getfqdn())}
    return Admission(secrets.token_urlsafe(24), frozenset(names), port, any_address=wild)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def serve(viewer: Viewer, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        viewer: the application to serve.
        host: address to listen on.
        port: 0 takes any free port.
        ready: called with the URL to open, including the token.

    Raises:
        BadSettingError: the address or port cannot be used.
    """
    listening = bound(host, port)
    port = listening.getsockname()[1]
    admission = admission_for(host, port)
    shown = socket.gethostname() if host in EVERYWHERE else _in_url(host)
    ready(f"http://{shown}:{port}/?token={admission.token}")
    _server(viewer, admission).run(sockets=[listening])


def _server(viewer: Viewer, admission: Admission) -> uvicorn.Server:
    """A server that drops all jobs when it ends, instead of waiting until they are done."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await asyncio.to_thread(viewer.worker.stop)
            await super().shutdown(sockets)

    app = viewer.app(admission)
    return Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=2))


def serve_in_thread(library: Library) -> tuple[str, str, Callable[[], None]]:
    """Serve a library on a free port of this machine, until the returned function is called.

    Returns:
        The server's name with its port, the token, and the function that ends it.
    """
    listening = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    admission = admission_for("127.0.0.1", port)
    server = _server(Viewer(library), admission)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()

    def end() -> None:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()

    return f"127.0.0.1:{port}", admission.token, end
