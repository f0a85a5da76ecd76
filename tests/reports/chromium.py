"""A real browser for tests: headless Chromium, spoken to through a pipe, so that nothing listens on a port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--proxy-server=127.0.0.1:9",
    "--remote-debugging-pipe",
)
"""Nothing answers on port 9 here: what a page asks for, it does not get."""

# Chromium reads commands from descriptor 3 and writes answers to 4; a process of its own puts the two pipes there.
_BRIDGE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends): os.dup2(end, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def program() -> str | None:
    """Where the browser is."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Seen:
    """What a page did while it was open: what the console said, and the addresses that it asked for."""

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Chromium:
    """One page of a running browser. `seen` begins anew with each `open`."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._left, self._numbers, self._session = b"", count(1), ""
        self.seen = Seen()
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.send(f"{domain}.enable")

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Seen:
        """Opens a file and waits until it is loaded."""
        self.seen = Seen()
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.dress(dark=dark)
        self.send("Page.navigate", url=page.resolve().as_uri())
        self._until("Page.loadEventFired")
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        return self.seen

    def again(self) -> None:
        """Waits until the page is loaded once more, by itself."""
        self._until("Page.loadEventFired")

    def dress(self, *, dark: bool = False, media: str = "screen") -> None:
        """A dark room, or paper."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page. It comes from outside, so the page's policy does not hold for it."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key, as a person presses it."""
        about: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="rawKeyDown", **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def roles(self) -> list[tuple[str, str]]:
        """(role, name) of everything that a screen reader is told of."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        told = [node for node in nodes if not node.get("ignored")]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told]

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """A PNG of the page, or of what is seen of it."""
        taken = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(taken["data"]))

    def paper(self) -> bytes:
        """The page as it is printed: a PDF."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def _until(self, event: str) -> None:
        while self._next().get("method") != event:
            pass

    def _next(self, patience: float = 60.0) -> dict[str, Any]:
        """The next message; what the page did is noted in `seen`."""
        end = time.monotonic() + patience
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._reading, 1 << 20)
            assert data, "the browser has gone"
            self._left += data
        text, self._left = self._left.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Log.entryAdded":
            self.seen.console.append(params["entry"]["text"])
        elif event == "Runtime.consoleAPICalled":
            self.seen.console.append(str(params["args"]))
        elif event == "Runtime.exceptionThrown":
            self.seen.console.append(str(params["exceptionDetails"]))
        elif event == "Network.requestWillBeSent":
            self.seen.requests.append(params["request"]["url"])


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser with an empty profile; it ends with the block."""
    browser = program()
    assert browser, "no Chromium"
    (commands, orders), (answers, replies) = os.pipe(), os.pipe()
    bridge = [sys.executable, "-c", _BRIDGE, str(commands), str(replies)]
    started = subprocess.Popen(
        [*bridge, browser, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(commands, replies),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(replies)
    try:
        yield Chromium(answers, orders)
    finally:
        started.kill()
        started.wait()
        os.close(orders)
        os.close(answers)
