"""Headless Chromium through its DevTools protocol: what a page asks for, complains of and measures.

The protocol runs over a socket that Chromium has as its descriptors 3 and 4, with a NUL after each
message, so that no port is open and no library is needed.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PROGRAM = shutil.which("chromium")
WORDS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_LIMIT_S = 60

# Those that tell something from the beginning are on before a page is opened.
DOMAINS = ("Page", "Runtime", "Log", "Network", "Audits")
REQUESTS = ("Network.requestWillBeSent", "Network.webSocketCreated")
QUIET = ("log", "debug", "info", "verbose")

Theme = Literal["light", "dark"]


class Chromium:
    """A browser that runs until it is closed."""

    def __init__(self, profile: Path) -> None:
        self._socket, other = socket.socketpair()
        self._socket.settimeout(ANSWER_LIMIT_S)
        self._rest, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        # bash rather than sh: a descriptor may have two digits.
        redirect = f'exec "$@" 3<&{other.fileno()} 4>&{other.fileno()}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", PROGRAM, f"--user-data-dir={profile}", *WORDS],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(other.fileno(),), start_new_session=True,
        )  # fmt: skip
        other.close()

    def close(self) -> None:
        """End it with all of its processes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """What a method answers; events that come before the answer are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        target = {"sessionId": session} if session else {}
        self._socket.sendall(json.dumps(message | target).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def wait_for(self, method: str, session: str) -> None:
        """Return when an event of a page has come."""
        while not any(e["method"] == method and e["sessionId"] == session for e in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            received = self._socket.recv(1 << 20)
            assert received, "Chromium has ended"
            self._rest += received
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def open(self, path: Path, *, width: int, theme: Theme = "light", media: str = "") -> Page:
        """A page from disk, loaded, in a window of this width."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(browser=self, session=session)
        for domain in DOMAINS:
            page.call(f"{domain}.enable")
        # Not as a telephone: its window grows with what overflows, and so would hide it.
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": theme}
        page.call("Emulation.setEmulatedMedia", media=media, features=[feature])
        page.call("Page.navigate", url=path.as_uri())
        self.wait_for("Page.loadEventFired", session)
        page.value("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        return page


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a browser, and what came of loading it."""

    browser: Chromium
    session: str

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What a method answers for this page."""
        return self.browser.call(method, self.session, **params)

    def value(self, expression: str) -> Any:
        """The value of JavaScript in the page, waited for where it is a promise."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """The address of everything that was asked for, blocked or not."""
        return [e["request"]["url"] for name, e in self._events() if name in REQUESTS]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, breaches of the page's policy."""
        return [said for name, event in self._events() if (said := _complaint(name, event))]

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def screenshot(self) -> bytes:
        """A PNG of the whole page."""
        wanted = {"captureBeyondViewport": True, "optimizeForSpeed": True}
        answer = self.call("Page.captureScreenshot", **wanted)
        return base64.b64decode(answer["data"])

    def _events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for event in self.browser.events:
            if event.get("sessionId") == self.session:
                yield event["method"], event["params"]


def _complaint(name: str, event: dict[str, Any]) -> str:
    """What an event complains of; empty if it does not."""
    if name == "Runtime.consoleAPICalled" and event["type"] not in QUIET:
        return f"{event['type']}: {[each.get('value') for each in event['args']]}"
    if name == "Runtime.exceptionThrown":
        details = event["exceptionDetails"]
        return str(details.get("exception", {}).get("description", details["text"]))
    if name == "Log.entryAdded" and event["entry"]["level"] not in QUIET:
        return f"{event['entry']['source']}: {event['entry']['text']}"
    if name == "Audits.issueAdded":
        return f"issue: {event['issue']['code']}"
    return ""
