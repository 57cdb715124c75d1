"""The page of a large set, from a server that answers nobody but this machine, and only who knows its token."""

import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from distillkit.look.page import SHEETS, Sheet

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingHTTPServer):
    """Answers GET /TOKEN/ with the page, and /TOKEN/sheets/NAME with a sheet; anything else is not found."""

    daemon_threads = True

    def __init__(self, html: str, sheets: Mapping[str, Sheet]):
        super().__init__((LOOPBACK, 0), Handler)
        self.token, self.sheets = secrets.token_urlsafe(32), sheets
        self.page = html.encode()

    @property
    def host(self) -> str:
        return f"{LOOPBACK}:{self.server_address[1]}"

    @property
    def address(self) -> str:
        return f"http://{self.host}/{self.token}/"

    def answer(self, host: str, path: str) -> tuple[str, bytes] | None:
        """Type and content of what a request may have; a name that leads here from elsewhere is refused, too."""
        _, token, *rest = path.split("/") if path.count("/") >= 2 else ("", "", "?")
        if host != self.host or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        if rest == [""]:
            return "text/html; charset=utf-8", self.page
        sheet = self.sheets.get(rest[1]) if len(rest) == 2 and rest[0] == SHEETS else None
        return None if sheet is None else ("image/webp", sheet())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no fault."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "distillkit", ""

    def do_GET(self) -> None:
        found = self.server.answer(self.headers.get("Host", ""), self.path)
        kind, content = found or ("text/plain; charset=utf-8", b"not found\n")
        self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token is in every address."""


@contextmanager
def serving(html: str, sheets: Mapping[str, Sheet]) -> Iterator[Server]:
    """A block in which the page is served."""
    server = Server(html, sheets)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
