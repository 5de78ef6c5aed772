"""Chromium, driven by Playwright, to look at pages as a person does."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "no Chromium for the tests of the pages: install it with `sudo apt-get install chromium`"


@contextmanager
def launched() -> Iterator[Browser]:
    """Start a browser for the tests of a module. While it runs, the thread has a running event loop."""
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.fail(INSTALL)
    with sync_playwright() as playwright:
        # Chromium's sandbox needs rights that containers lack; the pages are our own.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, path: Path, width: int, colours: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """Open a page of this machine without a network.

    Args:
        browser: see `launched`; the page shares nothing with other pages of it.
        path: HTML file.
        width: of the window in pixels.
        colours: light or dark, as the browser's user prefers.

    Yields:
        The page, and a list that collects messages of its console and requests to anywhere else.
    """
    with _browsing(browser, width, colours, ("file:", "data:"), is_offline=True) as (page, complaints):
        page.goto(path.resolve().as_uri())
        yield page, complaints


@contextmanager
def open_site(browser: Browser, url: str, width: int, colours: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """Open an address of a service on this machine; arguments and result are those of `open_page`."""
    origin = "/".join(url.split("/")[:3])
    with _browsing(browser, width, colours, (f"{origin}/",), is_offline=False) as (page, complaints):
        page.goto(url)
        yield page, complaints


@contextmanager
def _browsing(
    browser: Browser, width: int, colours: str, allowed: tuple[str, ...], *, is_offline: bool
) -> Iterator[tuple[Page, list[str]]]:
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if colours == "dark" else "light",
        offline=is_offline,
    )
    with closing(context):
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(allowed) else complaints.append(request.url),
        )
        yield page, complaints


def follow(element: Locator) -> None:
    """Click a link or a button, and wait for the page to which it leads."""
    with element.page.expect_navigation():
        element.click()


def barriers(page: Page) -> list[str]:
    """Return what keeps people from using a page, as axe-core finds it: serious and critical violations."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
