"""A running gateway's directory in, the dashboard as people see it out: served, opened, clicked."""

import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

PATIENCE_S: Final = 180.0
SCRIPT_S: Final = 60.0
"""Below what Selenium waits for an answer of the driver's."""
_CLICK: Final = """
const [name, text, done] = arguments, begin = performance.now();
let clicked = false;
function look() {
  if (!clicked) {
    const found = [...document.querySelectorAll("button")].filter(
      (one) => one.textContent.trim() === name && !one.disabled);
    if (found.length) { found.pop().click(); clicked = true; }
  } else if (document.body.textContent.includes(text)) {
    requestAnimationFrame(() => done((performance.now() - begin) / 1000));
    return;
  }
  setTimeout(look, 10);
}
look();
"""
SIZE: Final = (1360, 1000)


def missing() -> str:
    """Return what is not installed here; "" where all is."""
    for tool, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if shutil.which(tool) is None:
            return f"no {tool}: apt-get install {package}"
    for module in ("selenium", "streamlit"):
        if not _there(module):
            return f"no {module}: pip install 'ids-appliance[dashboard,browser]'"
    return ""


def _there(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


class Server:
    """The command `ids-appliance dashboard` on a free port of this machine; a context manager."""

    def __init__(self, *words: str, log: Path) -> None:
        self._words, self._log = words, log
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "ids_appliance", "dashboard", *self._words]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=log
            )
        wait(self._answers, f"the dashboard answers: {self._log}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def memory_mib(self) -> float:
        """Return the process' resident memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) / 1024

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(self._log.read_text())
        try:
            with urllib.request.urlopen(f"http://{self.address}/_stcore/health", timeout=5):
                return True
        except OSError:
            return False


class Browser:
    """Headless Chromium at one address; a context manager."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        from selenium import webdriver  # noqa: PLC0415  only where it is installed
        from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        size = ",".join(map(str, SIZE))
        for word in ("headless=new", "disable-gpu", "disable-dev-shm-usage", f"window-size={size}"):
            options.add_argument(f"--{word}")
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium's sandbox refuses root
        service = Service(shutil.which("chromedriver"))
        self.driver: Any = webdriver.Chrome(options=options, service=service)
        self._stack.callback(self.driver.quit)
        self.driver.set_page_load_timeout(PATIENCE_S)
        self.driver.set_script_timeout(SCRIPT_S)
        self.driver.get(f"http://{self._address}")
        wait(lambda: "Traffic by protocol" in self.text(), "the first panel")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def text(self) -> str:
        """Return everything the page says at the moment."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def panel(self, name: str) -> None:
        """Choose a panel."""
        self.click(f"//div[@data-testid='stRadio']//label[normalize-space(.)='{name}']")

    def button(self, name: str, *, beside: str = "") -> None:
        """Click a button by its label; `beside`: in the box that has this text."""
        box = f"//div[@data-testid='stLayoutWrapper' and contains(., '{beside}')]" if beside else ""
        self.click(f"({box}//button[normalize-space(.)='{name}'])[last()]")

    def click_until(self, name: str, text: str) -> float:
        """Click a button; return the seconds, by the browser's clock, until a text is drawn;
        infinity where it does not come within SCRIPT_S."""
        from selenium.common.exceptions import TimeoutException  # noqa: PLC0415

        try:
            return float(self.driver.execute_async_script(_CLICK, name, text))
        except TimeoutException:
            return math.inf

    def fill(self, label: str, text: str) -> None:
        """Type into a field and leave it."""
        path = f"//div[@data-testid='stTextInput'][.//label[contains(., '{label}')]]//input"

        def typed() -> bool:
            field = self.driver.find_element("xpath", path)
            field.clear()
            field.send_keys(text + "\n")
            return bool(field.get_attribute("value") == text)

        self._soon(typed, f"the field {label}")

    def click(self, path: str) -> None:
        """Click what an XPath finds, as soon as it is there and stays there for the click."""

        def clicked() -> bool:
            found = self.driver.find_element("xpath", path)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
            found.click()
            return True

        self._soon(clicked, path)

    def see(self, *texts: str) -> None:
        """Wait until the page says all of these."""
        wait(
            lambda: all(text in self.text() for text in texts), f"{texts} in: {self.text()[:2000]}"
        )

    def await_charts(self, count: int) -> None:
        """Wait until so many charts are drawn."""
        path = "//div[@data-testid='stVegaLiteChart']//*[self::canvas or name()='svg']"

        def drawn() -> bool:
            return len(self.driver.find_elements("xpath", path)) >= count

        self._soon(drawn, f"{count} charts")

    def settle(self) -> None:
        """Wait until nothing of a panel before is left: Streamlit shows it pale for a while."""
        path = "//*[@data-stale='true']"
        self._soon(lambda: not self.driver.find_elements("xpath", path), "a page that is drawn")

    def shot(self, path: Path, *, height: int = SIZE[1]) -> None:
        """Save what is seen as a PNG of few colours."""
        from PIL import Image  # noqa: PLC0415  comes with Streamlit

        self.driver.set_window_size(SIZE[0], height)
        self.driver.execute_script("window.scrollTo(0, 0)")
        raw = path.with_suffix(".raw.png")
        self.driver.save_screenshot(str(raw))
        with Image.open(raw) as image:
            image.convert("RGB").quantize(128).save(path, optimize=True)
        raw.unlink()

    def _soon(self, act: Callable[[], bool], what: str) -> None:
        from selenium.common.exceptions import WebDriverException  # noqa: PLC0415

        def done() -> bool:
            try:
                return act()
            except WebDriverException:  # the page is being drawn anew
                return False

        wait(done, what)


def wait(look: Callable[[], bool], what: str, *, limit_s: float = PATIENCE_S) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < end, what
        time.sleep(0.1)
