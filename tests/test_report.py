"""The report in a real browser."""

import os
import shutil

import pytest
from conftest import CHECKOUT, run_python

COMPARE = CHECKOUT / "scripts" / "compare.py"
WINDOW = (1000, 800)
NARROW = 500

browser_is_here = shutil.which("chromium") and shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not browser_is_here and os.environ.get("CI") != "true",
    reason="needs Debian's chromium and chromium-driver",
)


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking",
                 "hide-scrollbars"):  # fmt: skip
        options.add_argument("--" + flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(finished_run, tmp_path_factory):
    """The report of two runs whose weights differ in one variable, with activations."""
    from test_compare import ACTIVATIONS, copy_with_weights

    def change(arrays):
        arrays["block2/layer0/conv1/W"] *= 1.01

    root = tmp_path_factory.mktemp("report")
    other = copy_with_weights(finished_run, root / "b & <b>", change)
    a = root / "a"
    shutil.copytree(str(finished_run), str(a))
    for run in (a, other):
        out = run / "activations.npz"
        result = run_python(ACTIVATIONS, run / "model-0", "--images", "4", "--out", out)
        assert result.code == 0, result
    result = run_python(COMPARE, a, other, "--html", root / "report.html")
    assert result.code == 1, result
    return root / "report.html"


@pytest.fixture
def page(browser, report):
    browser.set_window_size(*WINDOW)
    browser.get("file://{}".format(report))
    return browser


def elements(page, selector):
    from selenium.webdriver.common.by import By

    return page.find_elements(By.CSS_SELECTOR, selector)


def test_it_opens_without_errors_and_needs_nothing_else(page, report):
    assert page.get_log("browser") == []
    loaded = page.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert [name for name in loaded if not name.startswith("data:")] == []
    images = elements(page, "img")
    assert len(images) >= 4
    assert all(page.execute_script("return arguments[0].naturalWidth", i) > 0 for i in images)
    assert all(image.get_attribute("alt") for image in images)


def test_the_sections_are_there_and_fold(page):
    for name in ("records", "graph", "checkpoints", "curves", "activations"):
        (section,) = elements(page, "details#" + name)
        assert section.get_attribute("open") is not None
        before = section.size["height"]
        elements(page, "details#{} > summary".format(name))[0].click()
        assert section.size["height"] < before
    assert "b & <b>" in elements(page, "body")[0].text


def test_the_verdict_and_the_worst_variable_are_on_the_first_screen(page):
    (verdict,) = elements(page, ".verdict")
    assert "different; decided by checkpoints" in verdict.text
    (row,) = [r for r in elements(page, "#parts tr") if r.text.startswith("checkpoints")]
    assert "block2/layer0/conv1/W" in row.text
    assert row.location["y"] + row.size["height"] < WINDOW[1]


def test_a_narrow_window_scrolls_in_one_direction_only(page):
    page.set_window_size(NARROW, WINDOW[1])
    inner, content = page.execute_script(
        "return [window.innerWidth, document.documentElement.scrollWidth]"
    )
    assert inner <= NARROW
    assert content <= inner


def test_what_is_folded_is_printed(page):
    assert elements(page, "details:not([open])")
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert not elements(page, "details:not([open])")


def test_on_paper_nothing_is_cut_off_and_heads_are_repeated(page):
    """A4 less the margins is 700 pixels wide."""
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 700, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        too_wide = page.execute_script(
            "return [...document.querySelectorAll('td, th, img, table')].filter("
            "x => x.getBoundingClientRect().right > 700 || x.scrollWidth > x.clientWidth + 1)"
            ".map(x => x.outerHTML.slice(0, 200))"
        )
        assert too_wide == []
        heads = page.execute_script(
            "return [...document.querySelectorAll('table')].filter(x => x.rows.length > 2)"
            ".map(x => x.tHead ? getComputedStyle(x.tHead).display : null)"
        )
        assert len(heads) > 5 and set(heads) == {"table-header-group"}
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
