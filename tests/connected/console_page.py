"""A real browser on a real console: everything that a page complains about fails the test that opened it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from services.console.access import Role
from services.console.users import FILE_NAME, Users
from services.platform.first_admin import user_with

ROOT: Final = Path(__file__).resolve().parents[2]
SHOTS: Final = ROOT / ".cache/screenshots"  # for people to look at; git ignores it
PASSWORD: Final = "correct-horse-battery"
PEOPLE: Final = {"vic": Role.VIEWER, "vera": Role.ANALYST, "rita": Role.RISK, "sue": Role.SUPERVISOR, "ada": Role.ADMIN}
VIEWS: Final = (
    "flow", "latency", "decisions", "quality", "models", "policies", "backtests", "review", "trace", "dead-letters",
    "people", "audit",
)  # fmt: skip
SIZES: Final = {"laptop": (1360, 850), "phone": (390, 844)}
# As root, without a screen, without anything that asks the network.
ARGUMENTS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT_MS: Final = 30_000
# A page that asks for something that is refused or away is told so in its console by the browser itself.
_EXPECTED: Final = "Failed to load resource"


def browser_path() -> str:
    """The browser that `make test` found or installed; else one on PATH."""
    stamp = ROOT / ".cache/browser"
    named = os.environ.get("WEIR_BROWSER") or (stamp.read_text().strip() if stamp.exists() else "")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no browser: `make test` finds or installs one, or name it by WEIR_BROWSER"
    return found


def add_people(data: Path) -> None:
    """One user of each role; one hash for all, because each costs a third of a second."""
    users = Users(data / FILE_NAME)
    stored = user_with("vic", Role.VIEWER, PASSWORD)
    for name, role in PEOPLE.items():
        users.put(type(stored)(name=name, role=role, password=stored.password, changed_ms=stored.changed_ms), new=True)


class Pages:
    """Opens pages, signed in; remembers what they complained about."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self.url = browser, url
        self.complaints: list[str] = []
        self._cookies: dict[str, list[Any]] = {}

    @contextmanager
    def page(self, name: str | None = "ada", *, size: str = "laptop", theme: str = "light") -> Iterator[Page]:
        """A page of its own, signed in as ``name``, on the flow."""
        width, height = SIZES[size]
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            reduced_motion="reduce",
            has_touch=size == "phone",
        )
        context.set_default_timeout(WAIT_MS)
        try:
            page = self._listened(context)
            if name in self._cookies:
                context.add_cookies(self._cookies[name])
            page.goto(self.url)
            if name is not None:
                if name not in self._cookies:
                    sign_in(page, name)
                expect(page.locator("main .head h1")).to_be_visible()
                self._cookies[name] = list(context.cookies())
            yield page
        finally:
            context.close()

    def _listened(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "console",
            lambda said: (
                self.complaints.append(f"{said.type}: {said.text}")
                if said.type in ("error", "warning") and _EXPECTED not in said.text
                else None
            ),
        )
        return page


@contextmanager
def browsing(url: str) -> Iterator[Pages]:
    """One browser for many pages."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(ARGUMENTS))
        try:
            yield Pages(browser, url)
        finally:
            browser.close()


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """With the keyboard, as the page asks."""
    page.locator("#name").fill(name)
    page.locator("#password").fill(password)
    page.keyboard.press("Enter")


def show(page: Page, view: str) -> None:
    """Go to a view and wait until it has something to say."""
    page.evaluate("path => { location.hash = `#/${path}`; }", view)
    expect(page.locator("main .boot")).to_have_count(0)
    page.wait_for_function("name => document.querySelector('.side a[aria-current]')?.hash === `#/${name}`", arg=view)


def shoot(page: Page, state: str, view: str, size: str, theme: str) -> None:
    """A picture of the whole view, and a look whether anything sticks out to the side or has no name."""
    page.wait_for_timeout(60)
    beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert beyond <= 0, f"{view} is {beyond} px too wide on a {size} ({state})"
    nameless = page.evaluate(NAMELESS)
    assert not nameless, f"{view} ({state}): controls without a name: {json.dumps(nameless)}"
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{view}-{state}-{size}-{theme}.png", full_page=size == "laptop")


NAMELESS: Final = """() => [...document.querySelectorAll('button, a[href], input, select, textarea, canvas, dialog')]
  .filter((one) => !one.hidden && one.offsetParent !== null)
  .filter((one) => !(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim() || one.title))
  .map((one) => one.outerHTML.slice(0, 120))"""
