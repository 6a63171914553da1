import numpy as np
import pytest

from dir_jax.pictures.pages.curves import Curve, curves_figure
from dir_jax.pictures.pages.page import Section, write_page
from dir_jax.prediction.page import viewer_html
from tests.dir_jax.browser import (
    errors,
    find,
    needs_browser,
    open_browser,
    picture_of,
    steady_picture_of,
    wait_for,
)
from tests.dir_jax.hand_results import known_result

pytestmark = [needs_browser, pytest.mark.slow]
OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
        yield driver


@pytest.fixture(scope="module")
def viewer(driver, tmp_path_factory):
    result = known_result()
    path = tmp_path_factory.mktemp("pages") / "result.html"
    path.write_text(viewer_html(result, truth_xyz=result.vertices_xyz[-1] + 0.01))
    driver.get(path.as_uri())
    wait_for(driver, lambda d: d.find_elements("css selector", ".hands3d canvas"))
    return result


def coloured(picture):
    """Where the picture is orange (the right hand) and where it is blue (the left one)."""
    red, _, blue = np.moveaxis(picture, -1, 0)
    return red > blue + 40, blue > red + 40


def press(driver, text):
    buttons = driver.find_elements("css selector", ".hands3d button")
    next(button for button in buttons if button.text == text).click()


def test_hands_are_drawn_where_the_photo_has_them(driver, viewer):
    canvas = find(driver, ".hands3d .canvas")
    assert driver.execute_script(
        "return !!document.querySelector('.hands3d canvas').getContext('webgl')"
    )
    directions = []
    for picture in (steady_picture_of(canvas), picture_of(find(driver, ".stack"))):
        orange, blue = (np.argwhere(mask).mean(0) for mask in coloured(picture))
        directions.append((blue - orange) / np.linalg.norm(blue - orange))
    assert directions[1][1] > 0.5  # on this photo the left hand is to the right of the other
    assert np.dot(*directions) > 0.95


def test_a_stage_button_changes_both_pictures(driver, viewer):
    canvas, photo = find(driver, ".hands3d .canvas"), find(driver, ".stack")
    press(driver, "refined 2")
    last = steady_picture_of(canvas), steady_picture_of(photo)
    press(driver, "initial")
    assert find(driver, ".hands3d").get_attribute("data-stage") == "0"
    first = steady_picture_of(canvas), steady_picture_of(photo)
    for before, after in zip(last, first, strict=True):
        assert (np.abs(after - before).max(-1) > 30).mean() > 0.01
    press(driver, "refined 2")
    again = steady_picture_of(canvas)
    assert (np.abs(again - last[0]).max(-1) > 30).mean() < 0.001


def test_views_truth_and_overlay_can_be_switched(driver, viewer):
    canvas, photo = find(driver, ".hands3d .canvas"), find(driver, ".stack")
    front = steady_picture_of(canvas)
    press(driver, "side")
    side = steady_picture_of(canvas)
    assert (np.abs(side - front).max(-1) > 30).mean() > 0.02
    press(driver, "as the photo")
    np.testing.assert_array_equal(steady_picture_of(canvas), front)
    find(driver, ".truth input").click()
    red, green, blue = np.moveaxis(steady_picture_of(canvas), -1, 0)
    assert ((green > red + 20) & (green > blue + 20)).sum() > 100
    find(driver, ".truth input").click()
    find(driver, ".overlay-toggle input").click()
    assert not any(mask.any() for mask in coloured(picture_of(photo)[4:-4, 4:-4]))
    find(driver, ".overlay-toggle input").click()


def test_the_hands_turn_with_the_mouse(driver, viewer):
    from selenium.webdriver import ActionChains

    canvas = find(driver, ".hands3d .canvas")
    before = steady_picture_of(canvas)
    ActionChains(driver).move_to_element(canvas).click_and_hold().move_by_offset(
        120, 30
    ).release().perform()
    after = steady_picture_of(canvas)
    assert (np.abs(after - before).max(-1) > 30).mean() > 0.02
    press(driver, "as the photo")


def test_nothing_was_asked_of_the_network(driver, viewer):
    names = driver.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in names if not name.startswith(("data:", "blob:"))] == []
    assert errors(driver) == []


def test_curves_are_drawn(driver, tmp_path):
    x = np.arange(200.0)
    curves = [Curve("falling", x, np.exp(-x / 50)), Curve("rising", x, 1 - np.exp(-x / 50))]
    write_page(tmp_path / "c.html", "curves", [Section("", [curves_figure(curves, "both")])])
    driver.get((tmp_path / "c.html").as_uri())
    wait_for(
        driver, lambda d: len(d.find_elements("css selector", ".scatterlayer path.js-line")) == 2
    )
    text = find(driver, ".curves .legend").text
    assert "falling" in text and "rising" in text
    picture = steady_picture_of(find(driver, ".curves .canvas"))
    assert all(mask.sum() > 100 for mask in coloured(picture))
