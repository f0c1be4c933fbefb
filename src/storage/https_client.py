# SPDX-License-Identifier: Apache-2.0
"""Answers of servers over HTTPS, with an end to every wait.

Certificates are checked. The proxies of the environment (HTTPS_PROXY, NO_PROXY) are used.
"""

import contextlib
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..base.errors import UserError
from ..base.messages import shown

SILENCE = 30.0  # seconds in which a server has to send something
ANSWER_SECONDS = 60.0  # within which it has to answer at all, redirections included
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MOST_REDIRECTIONS = 5
_T = TypeVar("_T")


def ask(url: str, headers: Mapping[str, str], name: str) -> Any:
    """Send a GET request.

    Args:
        url: one that `require_safe` lets pass.
        headers: of the request.
        name: what it is the address of, for errors.

    Returns:
        The answer, an `http.client.HTTPResponse` of status 2xx; to be closed.

    Raises:
        urllib.error.HTTPError: it is of another status.
        OSError: there is none, or it does not come in time.
        http.client.HTTPException: it is none of HTTP.
        UserError: it leads to an address that is not safe.
    """
    request = urllib.request.Request(url, headers=dict(headers))
    opener = _opener(url, name)
    return _within(ANSWER_SECONDS, lambda: opener.open(request, timeout=SILENCE))


def read_piece(answer: Any, most: int) -> bytes:
    """Return the next bytes of an answer, none at its end.

    Args:
        answer: what `ask` returned.
        most: bytes.

    Raises:
        OSError: they do not come in time, or the line is broken.
    """
    if not answer.chunked:
        return bytes(answer.read1(most))
    try:  # what stands between chunks and behind the last one has no end of its own
        return bytes(_within(ANSWER_SECONDS, lambda: answer.read1(most)))
    except TimeoutError:
        _hang_up(answer)
        raise


def _hang_up(answer: Any) -> None:
    """End what a thread still reads: nobody can close it before."""
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),
        socket.socket(fileno=os.dup(answer.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


def require_safe(url: str, name: str) -> None:
    """Refuse addresses whose answer anybody on the way could change.

    Args:
        url: https, or http on this machine itself.
        name: what it is the address of, for errors.

    Raises:
        UserError: it is of another kind, or has a password in it, which would not be sent.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise UserError(
            f"{name}: an address on {shown(host_of(url), 200)} with a user in it cannot be used; "
            "take what stands before @ out"
        )
    if not (_is_https(url) or _is_loopback(url)):
        raise UserError(f"{name}: {shown(url, 200)} is no https address; give one")


def host_of(url: str) -> str:
    """Return the name of an address's host; "" where it has none.

    Args:
        url: any text.
    """
    return _parts(url)[1]


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:  # one bracket
        return "", ""


def _is_https(url: str) -> bool:
    scheme, host = _parts(url)
    return scheme == "https" and bool(host)


def _is_loopback(url: str) -> bool:
    scheme, host = _parts(url)
    return scheme == "http" and host in _LOOPBACK


def _opener(url: str, name: str) -> urllib.request.OpenerDirector:
    """What opens http and https, and nothing else: no file, no ftp."""
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _SafeRedirects(url, name),
    ]
    if not _is_loopback(url):  # this machine is not reached through another one
        handlers.append(urllib.request.ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to https alone; on this machine to itself too."""

    max_redirections = _MOST_REDIRECTIONS

    def __init__(self, url: str, name: str) -> None:
        self._name, self._from_loopback = name, _is_loopback(url)

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """See the standard library's."""
        if not (_is_https(newurl) or (self._from_loopback and _is_loopback(newurl))):
            raise UserError(
                f"{self._name}: {req.full_url} leads to {shown(newurl, 200)}, which is no https "
                "address; it is not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Return what `call` does; a server could send the head of its answer a byte at a time.

    Raises:
        TimeoutError: it takes longer. The thread is left to itself.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # of the thread; raised again below
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError("it does not answer")
    return results[0]
