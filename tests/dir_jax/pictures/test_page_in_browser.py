import numpy as np
import pytest

from dir_jax.prediction.page import result_html
from tests.dir_jax.browser import (
    errors,
    find,
    needs_browser,
    open_browser,
    steady_picture_of,
    wait_for,
)
from tests.dir_jax.prediction.known_hands import known_result

ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
pytestmark = [needs_browser, pytest.mark.slow]
OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    result = known_result()
    path = tmp_path_factory.mktemp("pages") / "result.html"
    path.write_text(result_html(result, truth_xyz=result.vertices_xyz[-1] + 0.01))
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
        driver.get(path.as_uri())
        wait_for(driver, lambda d: d.find_elements("css selector", ".gl-container canvas"))
        yield driver


def halves(driver):
    """The photograph's and the scene's half of the figure, (h, w, 3) each."""
    picture = steady_picture_of(find(driver, ".chart"))[40:-110]
    middle = picture.shape[1] // 2
    return picture[:, : middle - 20], picture[:, middle + 20 :]


def colours(picture):
    """Where the picture is orange (the right hand), blue (the left one) and green (the truth)."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return red > blue + 40, blue > red + 40, (green > red + 20) & (green > blue + 20)


def changed(before, after):
    return (np.abs(after - before).max(-1) > 30).mean()


def press(driver, selector, text):
    """Clicks where the text stands (plotly's own areas for the mouse lie above its texts)."""
    found = driver.find_elements("css selector", selector)
    place = next(one for one in found if text in one.text)
    ActionChains(driver).move_to_element(place).click().perform()


def test_hands_are_drawn_where_the_photo_has_them(driver):
    directions = []
    for picture in halves(driver):
        orange, blue = (np.argwhere(mask).mean(0) for mask in colours(picture)[:2])
        directions.append((blue - orange) / np.linalg.norm(blue - orange))
    assert directions[1][1] > 0.5  # on this photo the left hand is to the right of the other
    assert np.dot(*directions) > 0.95


def test_the_slider_changes_both_pictures(driver):
    last = halves(driver)
    press(driver, ".slider-label", "initial")
    assert all(changed(*pair) > 0.01 for pair in zip(last, halves(driver), strict=True))


def test_views_truth_and_mouse(driver):
    front = halves(driver)[1]
    press(driver, ".updatemenu-button", "side")
    assert changed(front, halves(driver)[1]) > 0.02
    press(driver, ".updatemenu-button", "as the photo")
    assert changed(front, halves(driver)[1]) < 0.001
    assert not colours(front)[2].any()
    press(driver, ".legendtext", "true hands")
    wait_for(driver, lambda d: colours(halves(d)[1])[2].sum() > 100)  # after a double click's time
    scene = find(driver, ".gl-container canvas")
    actions = ActionChains(driver).move_to_element(scene).click_and_hold()
    actions.move_by_offset(120, 30).release().perform()
    assert changed(front, halves(driver)[1]) > 0.02


def test_nothing_was_asked_of_the_network(driver):
    names = driver.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in names if not name.startswith(("data:", "blob:"))] == []
    assert errors(driver) == []
