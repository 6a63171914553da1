"""A real browser without a window, for tests that look at pages; they are skipped without one."""

import contextlib
import shutil
import time

import cv2
import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no Chromium here; `apt-get install chromium chromium-driver` brings it",
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--enable-unsafe-swiftshader --disable-dev-shm-usage --window-size=1280,1000"
).split()


@contextlib.contextmanager
def open_browser(profile):
    """Chromium with a new, empty profile folder, until the block ends."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def wait_for(driver, condition, seconds=30):
    """The first true value of `condition(driver)`."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, poll_frequency=0.1).until(condition)


def find(driver, selector):
    return driver.find_element("css selector", selector)


def picture_of(element):
    """Pixels (h, w, 3) int RGB of an element as the browser shows it."""
    data = np.frombuffer(element.screenshot_as_png, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def steady_picture_of(element, seconds=15):
    """As `picture_of`, once two pictures in a row are the same."""
    end = time.monotonic() + seconds
    before = picture_of(element)
    while time.monotonic() < end:
        time.sleep(0.3)
        now = picture_of(element)
        if np.array_equal(now, before):
            return now
        before = now
    return before


def errors(driver):
    return [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
