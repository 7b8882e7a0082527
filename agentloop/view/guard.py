"""Who is answered: requests to our own address, by who holds the token.

Enters: requests. Leaves: those that may pass; a refusal for all others, and headers that keep a page
from reaching anywhere else. Refuses to know: what is asked.

Another site in the same browser can send requests to 127.0.0.1, also under a name of its own that it
lets point there (DNS rebinding). So `Host` must be ours, the token must be there, and who posts must
come from our own pages.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 64_000  # bytes of what is posted
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Stands before the pages."""

    def __init__(self, app: ASGIApp, token: str, port: int):
        self._app = app
        self._token = token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._cookie = f"agentloop_{port}"  # a browser sends one port's cookies to all of them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self._entry(scope) or self._app

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [*message.get("headers", ())]
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": given + own}
            await send(message)

        await answer(scope, receive, marked)

    def _refusal(self, scope: Scope) -> Response | None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return PlainTextResponse("this server answers to 127.0.0.1 only", 421)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("not here", 405)
        if not self._is_known(scope):
            return PlainTextResponse(
                "the token is missing: open the address that `agentloop view` printed", 403
            )
        return _refused_post(scope, hosts[0]) if scope["method"] == "POST" else None

    def _is_known(self, scope: Scope) -> bool:
        given = [*_queried(scope), *_cookies(scope, self._cookie)]
        return any(secrets.compare_digest(self._token.encode(), one.encode()) for one in given)

    def _entry(self, scope: Scope) -> Response | None:
        """Put the token from the address into a cookie, and the address without it into its place."""
        if not [*_queried(scope)] or scope["method"] == "POST":
            return None
        rest = [(name, value) for name, value in _query(scope) if name != "token"]
        path = "/" + quote(scope["path"].lstrip("/"))  # `//elsewhere` would be another host's
        response = RedirectResponse(path + ("?" + urlencode(rest) if rest else ""), 303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response


def _refused_post(scope: Scope, host: str) -> Response | None:
    """Refuse what does not come from our own pages, or is too long; a form cannot say JSON."""
    if _values(scope, b"origin") != [f"http://{host}"]:
        return PlainTextResponse("only our own pages may post", 403)
    if _values(scope, b"content-type") != ["application/json"]:
        return PlainTextResponse("JSON is posted here", 415)
    length = _values(scope, b"content-length")
    if len(length) != 1 or not length[0].isdigit() or int(length[0]) > LONGEST:
        return PlainTextResponse("too long", 413)
    return None


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _query(scope: Scope) -> list[tuple[str, str]]:
    text = scope["query_string"].decode("latin-1")
    return parse_qsl(text, keep_blank_values=True, errors="replace")


def _queried(scope: Scope) -> Iterable[str]:
    return (value for name, value in _query(scope) if name == "token")


def _cookies(scope: Scope, name: str) -> Iterable[str]:
    for line in _values(scope, b"cookie"):
        try:
            found = SimpleCookie(line)
        except CookieError:
            continue
        if name in found:
            yield found[name].value
