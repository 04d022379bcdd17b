"""A real browser without a window, driven over pipes (`--remote-debugging-pipe`): no port, no dependency.

https://chromedevtools.github.io/devtools-protocol/: messages are JSON, each followed by a zero byte; the browser reads
them from its descriptor 3 and writes to 4.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

Json: TypeAlias = dict[str, Any]

PATIENCE = 20.0
PROGRAM = "chromium"
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--no-default-browser-check", "--disable-dev-shm-usage", "--force-color-profile=srgb",
)  # fmt: skip

DESKTOP = (1280, 900)
PHONE = (360, 740)


def program() -> str | None:
    """The browser's path; None where there is none."""
    return shutil.which(PROGRAM)


class ProtocolError(Exception):
    """The browser refused a command, or a script raised."""


class Browser:
    """One running browser. Leave the block, and it is gone."""

    def __init__(self, command: Sequence[str] = (), flags: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        arguments = [
            *command,
            PROGRAM,
            *_FLAGS,
            *sandbox,
            f"--user-data-dir={self._folder.name}",
        ]
        # The shell puts the two descriptors where the browser looks for them.
        place = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", place, "chromium", *arguments, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[Json]] = {}
        self.pages: dict[str, Page] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        os.close(self._to)
        self._reader.join(PATIENCE)
        os.close(self._from)
        self._folder.cleanup()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Json:
        """One command and its result."""
        number = next(self._numbers)
        answers = self._answers[number] = queue.SimpleQueue()
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answer = answers.get(timeout=PATIENCE)
        if "error" in answer:
            raise ProtocolError(f"{method}: {answer['error']}")
        result: Json = answer["result"]
        return result

    def page(self, size: tuple[int, int] = DESKTOP, *, dark: bool = False, proxy: str = "") -> Page:
        """A new, empty page with storage and connections of its own."""
        way = {"proxyServer": proxy} if proxy else {}
        context = self.call("Target.createBrowserContext", **way)["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(size)
        page.prefer(dark=dark)
        return page

    def _read(self) -> None:
        buffer = b""
        while chunk := os.read(self._from, 1 << 16):
            *messages, buffer = (buffer + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers.pop(message["id"]).put(message)
                elif page := self.pages.get(message.get("sessionId", "")):
                    page.heard(message["method"], message["params"])


class Page:
    """One tab. `complaints` are what the browser had to say against it: errors, refusals, failed loads."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser, self._session, self._context = browser, session, context
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def close(self) -> None:
        """The tab goes, with its storage and its connections."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
        self._browser.pages.pop(self._session, None)

    def heard(self, method: str, said: Json) -> None:
        """An event came from the browser."""
        if method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning", "assert"}:
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def call(self, method: str, **parameters: Any) -> Json:
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression (a promise's, when it is there), as JSON would have it."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise ProtocolError(done["exceptionDetails"].get("exception", done["exceptionDetails"]))
        return done["result"].get("value")

    def until(self, script: str, timeout: float = PATIENCE) -> Any:
        """Wait until an expression is true; its value (of an element: true)."""
        end = time.monotonic() + timeout
        look = f"(() => {{ const value = ({script}); return value instanceof Node || value; }})()"
        while not (value := self.run(look)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script}\n{self.run('document.body.innerText')}\n{self.complaints}")
            time.sleep(0.03)
        return value

    def text(self, selector: str = "body") -> str:
        found: str = self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    def resize(self, size: tuple[int, int]) -> None:
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, *, dark: bool = False, still: bool = True) -> None:
        """What the user's system is set to."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where to point at for an element, scrolled into view: its first line, since between lines it is not hit."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const r = e.getClientRects()[0] ?? e.getBoundingClientRect();"
            " return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        return x, y

    def hover(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tap(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key],
                modifiers=8 if shift else 0, **({"text": text} if text and kind == "keyDown" else {}),
            )  # fmt: skip

    def choose(self, selector: str, value: str) -> None:
        """Take an option of a select element, as its user would."""
        where = json.dumps(selector)
        self.run(
            f"(() => {{ const e = document.querySelector({where}); e.value = {json.dumps(value)};"
            " for (const k of ['input', 'change']) e.dispatchEvent(new Event(k, {bubbles: true})); })()"
        )

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))
        return path

    def eventually(self, met: Callable[[], bool], timeout: float = PATIENCE) -> None:
        end = time.monotonic() + timeout
        while not met():
            assert time.monotonic() < end, self.text()
            time.sleep(0.05)
