"""Access control of the server: a secret token, requests from the page's own origin, and the server's name.

Programs of other users of this machine cannot guess the token. Pages of other sites cannot use the browser of
someone who has it: their origin differs, and a name of theirs that resolves to this machine is not accepted.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # Only our own files: no inline scripts or styles, no eval, no other hosts.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


ONWARDS = (
    '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>nisf view</title>'
    '<meta http-equiv="refresh" content="0; url=/"></html>\n'
)
"""A page that leads to the viewer's."""
HTTP_PORT = 80
"""Port that browsers leave out of the ``Host`` header."""


@dataclass(frozen=True)
class Admission:
    """What a request must present.

    Attributes:
        token: the secret.
        names: names of this server, without port.
        port: its port.
        any_address: whether every numeric address is one of this server's. Only names can be made to resolve
            to another machine.
    """

    token: str
    names: frozenset[str]
    port: int
    any_address: bool = False

    @property
    def cookie(self) -> str:
        """Name of the cookie, with the port, because cookies do not distinguish ports."""
        return f"nisf-view-{self.port}"

    def known_host(self, headers: Mapping[str, str]) -> bool:
        """Whether the ``Host`` header is a name of this server, with its port."""
        host = headers.get("host", "").lower()
        name = host.removesuffix(f":{self.port}")
        if name == host and self.port != HTTP_PORT:
            return False
        return name in self.names or (self.any_address and _is_address(name))

    def own_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from the viewer's page, or not from a page at all."""
        origin = headers.get("origin")
        if origin is not None:
            host = headers.get("host", "")
            return origin in (f"http://{host}", f"https://{host}")
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")

    def has_token(self, headers: Mapping[str, str]) -> bool:
        """Whether the cookie or the header ``X-Nisf-Token`` has the token."""
        # Cookies of other programs on this machine come along; Python's own parser stops at some of them.
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return self.is_token(headers.get("x-nisf-token", "")) or self.is_token(cookie)

    def is_token(self, given: str) -> bool:
        """Constant-time comparison with the token."""
        return hmac.compare_digest(given.encode(), self.token.encode())


def _is_address(name: str) -> bool:
    """Whether a host's name is an IPv4 address, or an IPv6 address in brackets."""
    inside = name.removeprefix("[").removesuffix("]")
    try:
        return name == (f"[{inside}]" if ip_address(inside).version == 6 else inside)
    except ValueError:
        return False


class Guard:
    """Wraps the application: rejects unauthorised requests, exchanges the token in the URL for a cookie."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = self._stopped(scope, headers)
        await (self.app if answer is None else answer)(scope, receive, send_guarded)

    def _stopped(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """The response that a request gets instead of the application's, if any."""
        admission = self.admission
        if not admission.known_host(headers):
            return refused(421, "This server has another name or port; forward a port under its own number.")
        own = admission.own_origin(headers)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and token and (own or headers.get("sec-fetch-mode") == "navigate"):
            if not admission.is_token(token):
                return refused(403, "The token in the address is not this viewer's; copy the whole address.")
            # Removes the token from the address bar, the history and screenshots. Where a link on another
            # page led here, such as a notebook's, a redirect would count as that page's and get no cookie.
            answer = RedirectResponse("/", status_code=303) if own else HTMLResponse(ONWARDS)
            answer.set_cookie(admission.cookie, admission.token, httponly=True, samesite="strict", path="/")
            return answer
        if not own:
            return refused(403, "Only the viewer's own page may ask.")
        if not admission.has_token(headers):
            return refused(403, "Open the address that nisf view printed; it contains the token.")
        return None


def refused(status: int, sentence: str) -> Response:
    """An error response of one sentence."""
    return JSONResponse({"error": sentence}, status_code=status)
