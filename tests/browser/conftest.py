"""A JupyterLab with this kernel and a headless Chromium; without them the tests here are skipped."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from mpkernel.kernelspec import DATA, NAME

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [name for name in ("jupyterlab", "ipywidgets", "playwright", "PIL") if not importlib.util.find_spec(name)]
if CHROMIUM is None:
    MISSING.append("Chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.heavy)
            if MISSING:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(MISSING)}"))


@pytest.fixture(scope="session")
def kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """JupyterLab finds the kernelspec of these sources, not the one that is installed."""
    folder = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(DATA, folder / "kernels" / NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        yield


@pytest.fixture(scope="session")
def page(kernelspec: None) -> Iterator[Page]:
    """A page of a browser, on a JupyterLab that runs as long as the tests."""
    from playwright.sync_api import sync_playwright

    from scripts.record import CHROMIUM_ARGUMENTS, jupyterlab

    with jupyterlab(seconds=5) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
        page.goto(f"{address}/lab?reset", wait_until="domcontentloaded")
        wait_restored(page)
        yield page
        browser.close()


@pytest.fixture
def other_page(page: Page) -> Iterator[Page]:
    """A second tab of that browser; JupyterLab gives it a workspace of its own."""
    other = page.context.new_page()
    other.goto(page.url.partition("/lab")[0] + "/lab/workspaces/other?reset", wait_until="domcontentloaded")
    wait_restored(other)
    yield other
    other.close()


def wait_restored(page: Page) -> None:
    """Wait until JupyterLab has come up in a page."""
    page.wait_for_function("window.jupyterapp?.shell", timeout=60_000)
    page.evaluate("window.jupyterapp.restored.then(() => null)")
