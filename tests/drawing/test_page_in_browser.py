"""The page in a browser: it draws, it reacts to its controls, and it has nothing to complain about.

Needs Debian's `chromium` and `chromium-driver`, and `pip install selenium`.
"""

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from occjax.classes import FREE
from occjax.drawing.page import write_page
from occjax.drawing.page_frame import FrameVolume, SceneFrame, pack_frame
from occjax.grid import VoxelGrid

CAR, PEDESTRIAN, ROAD, MANMADE = 4, 7, 11, 15
GRID = VoxelGrid("ego", (-8.0, -8.0, -1.0), 0.5, (32, 32, 8))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # Software rendering, which every machine has.
    for argument in ("headless=new", "no-sandbox", "use-angle=swiftshader", "enable-unsafe-swiftshader"):
        options.add_argument(f"--{argument}")
    options.add_argument("--window-size=900,700")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def street(car_at: int) -> np.ndarray:
    """A road, a car on it, and a wall along its left side."""
    semantics = np.full(GRID.shape, FREE, np.uint8)
    semantics[:, :, 1] = ROAD
    semantics[car_at : car_at + 6, 8:14, 2:5] = CAR
    semantics[:, 30:, 2:7] = MANMADE
    return semantics


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The page of two frames with all four panels, opened."""
    names = ("CAM_FRONT",)
    frames = []
    for number, car_at in enumerate((20, 24)):
        probability = np.full(GRID.shape, 0.8, np.float32)
        missed = street(car_at)
        missed[missed == CAR] = PEDESTRIAN
        frame = SceneFrame(
            f"frame {number}",
            np.full((1, 90, 160, 3), 90 * number, np.uint8),
            FrameVolume(missed, probability),
            FrameVolume(street(car_at)),
            FrameVolume(street(car_at), probability),
        )
        frames.append(pack_frame(frame, names, "ego"))
    path = write_page(tmp_path_factory.mktemp("page") / "scene.html", frames, GRID, title="a page", camera_names=names)
    browser.get(path.as_uri())
    settle(browser)
    return browser


def draws(browser) -> int:
    return int(browser.execute_script("return document.getElementById('canvas').dataset.draws || 0"))


def settle(browser) -> None:
    """Waits until something has been drawn, and nothing more is."""
    last, deadline = -1, time.monotonic() + 60
    while (now := draws(browser)) == 0 or now != last:
        assert time.monotonic() < deadline, browser.find_element("id", "message").text
        last = now
        time.sleep(0.5)


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def after(browser, script: str) -> np.ndarray:
    """The canvas, RGB [rows, columns, 3], once the script's change is drawn."""
    browser.execute_script(script)
    settle(browser)
    return picture(browser)


def picture(browser) -> np.ndarray:
    png = browser.find_element("id", "canvas").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def quarters(image: np.ndarray) -> dict[str, np.ndarray]:
    """Panels by name, as they stand two by two."""
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    upper, lower = image[:rows], image[rows:]
    parts = (upper[:, :columns], upper[:, columns:], lower[:, :columns], lower[:, columns:])
    return dict(zip(("truth", "prediction", "teacher", "errors"), parts, strict=True))


def colored(image: np.ndarray, *, much: str, little: str) -> int:
    """Pixels with much of some channels and little of others, of "rgb"."""
    channel = {name: image[..., i] for i, name in enumerate("rgb")}
    most = np.max([channel[name] for name in little], axis=0)
    return int(np.all([channel[name] > most + 60 for name in much], axis=0).sum())


def test_four_panels_are_drawn(page):
    panels = quarters(picture(page))
    assert [label.text for label in page.find_elements("css selector", "#labels button")] == list(panels)
    for name in ("truth", "prediction", "teacher"):
        assert colored(panels[name], much="rb", little="g") > 3000, name  # the road
    cars = {name: colored(panel, much="b", little="r") for name, panel in panels.items()}
    people = {name: colored(panel, much="r", little="gb") for name, panel in panels.items()}
    assert min(cars["truth"], cars["teacher"]) > 200 > 20 > cars["prediction"]
    assert people["prediction"] > 200 > 20 > max(people["truth"], people["teacher"])


def test_controls_change_the_picture_and_nothing_else_does(page):
    before, count = picture(page), draws(page)
    assert draws(page) == count
    hidden = after(page, f"document.querySelector('[data-class=\"{CAR}\"]').click()")
    assert colored(quarters(hidden)["truth"], much="b", little="r") < 20
    shown = after(page, f"document.querySelector('[data-class=\"{CAR}\"]').click()")
    np.testing.assert_array_equal(shown, before)

    height = "const s = document.getElementById('height'); s.value = {}; s.dispatchEvent(new Event('input'))"
    low = after(page, height.format(2))
    assert colored(quarters(low)["truth"], much="b", little="r") < 20
    assert "m" in page.find_element("id", "heightText").text
    np.testing.assert_array_equal(after(page, height.format(8)), before)

    time_slider = "const s = document.getElementById('time'); s.value = {}; s.dispatchEvent(new Event('input'))"
    image = "return document.querySelector('#cameras img').src"
    first = page.execute_script(image)
    moved = after(page, time_slider.format(1))
    assert page.find_element("id", "sample").text == "frame 1" and page.execute_script(image) != first
    assert (moved != before).any()
    np.testing.assert_array_equal(after(page, time_slider.format(0)), before)

    above = after(page, "document.getElementById('top').click()")
    # The ground fills a square of each panel, with forward up: the car stands in its upper right part.
    rows, columns = np.nonzero(quarters(above)["truth"][..., 2] > quarters(above)["truth"][..., 0] + 60)
    size = np.array(quarters(above)["truth"].shape[:2])
    assert rows.mean() < 0.45 * size[0] and columns.mean() > 0.52 * size[1]
    np.testing.assert_array_equal(after(page, "document.getElementById('behind').click()"), before)

    alone = after(page, "document.querySelector('#labels [data-panel=errors] button').click()")
    assert colored(alone, much="rb", little="g") < 20  # no road: its errors are shown, where it is right
    np.testing.assert_array_equal(
        after(page, "document.querySelector('#labels [data-panel=errors] button').click()"), before
    )
    time.sleep(1)
    count = draws(page)
    time.sleep(1)
    assert draws(page) == count


def test_exposed_faces_alone_are_drawn(page):
    after(page, "document.querySelector('#labels [data-panel=truth] button').click()")
    count = int(page.execute_script("return document.getElementById('canvas').dataset.faces"))
    is_there = np.pad(street(20) != FREE, 1)
    exposed = 0
    for x, y, z in np.argwhere(is_there):
        around = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
        exposed += sum(not is_there[x + i, y + j, z + k] for i, j, k in around)
    assert count == exposed
    after(page, "document.querySelector('#labels [data-panel=truth] button').click()")


def test_the_pointer_tells_class_and_probability(page):
    panel = quarters(picture(page))["prediction"]
    rows, columns = np.nonzero((panel[..., 0] > panel[..., 1] + 100) & (panel[..., 0] > panel[..., 2] + 100))
    canvas = page.find_element("id", "canvas")
    x, y = columns[len(columns) // 2] + canvas.size["width"] // 2, rows[len(rows) // 2]
    point = (
        "const c = document.getElementById('canvas'), r = c.getBoundingClientRect(); c.dispatchEvent(new PointerEvent("
        f"'pointermove', {{pointerType: 'mouse', clientX: r.left + {x}, clientY: r.top + {y}}}))"
    )
    after(page, point)
    tip = page.find_element("id", "tip").text.splitlines()
    assert tip[:3] == ["pedestrian, 80 %", "truth: car", "teacher: car, 80 %"]
    assert "ahead" in tip[3] and "right" in tip[3] and "above the ground" in tip[4]
    leave = "new PointerEvent('pointerleave', {pointerType: 'mouse'})"
    after(page, f"document.getElementById('canvas').dispatchEvent({leave})")
    assert not page.find_element("id", "tip").is_displayed()


def test_keys_work_wherever_the_focus_is(page):
    before = picture(page)
    press = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{}', bubbles: true}}))"
    # A button was clicked, and keeps the focus.
    page.execute_script("document.getElementById('behind').focus()")
    above = after(page, press.format("T"))
    assert (above != before).mean() > 0.05
    np.testing.assert_array_equal(after(page, press.format("b")), before)
    after(page, press.format("ArrowRight"))
    assert page.find_element("id", "sample").text == "frame 1"
    after(page, press.format("ArrowLeft"))
    assert page.find_element("id", "sample").text == "frame 0"


def test_a_drag_turns_all_panels(page):
    before = picture(page)
    assert "drag to turn" in page.find_element("id", "hint").text
    drag = """
const canvas = document.getElementById('canvas'), {left, top} = canvas.getBoundingClientRect();
canvas.setPointerCapture = () => {};
for (const [kind, x, buttons] of [['pointerdown', 100, 1], ['pointermove', 180, 1], ['pointerup', 180, 0]]) {
  canvas.dispatchEvent(new PointerEvent(kind, {pointerId: 1, buttons, clientX: left + x, clientY: top + 100}));
}"""
    turned = quarters(after(page, drag))
    assert all((turned[name] != panel).mean() > 0.05 for name, panel in quarters(before).items())
    assert not page.find_element("id", "hint").is_displayed()
    after(page, "document.getElementById('behind').click()")


def test_it_is_quick_and_has_nothing_to_complain_about(page):
    times = []
    for _ in range(5):
        after(page, "document.getElementById('behind').click()")
        times.append(float(page.execute_script("return document.getElementById('canvas').dataset.drawMs")))
    assert min(times) < 3  # milliseconds of script a frame
    assert page.get_log("browser") == []


def test_low_windows_keep_a_picture(page):
    page.set_window_size(900, 330)
    settle(page)
    assert page.find_element("id", "canvas").size["height"] >= 170
    page.set_window_size(900, 700)
    settle(page)
    assert page.get_log("browser") == []


def test_a_damaged_frame_and_a_lost_card_are_told(browser, tmp_path):
    """Last: the page is not the others' any more."""
    volume = FrameVolume(street(20))
    good, bad = (
        pack_frame(SceneFrame(f"frame {i}", np.zeros((0, 9, 16, 3), np.uint8), volume), (), "ego") for i in (0, 1)
    )
    frames = [good, bad._replace(voxels="AAAA" + bad.voxels[4:])]
    browser.get(write_page(tmp_path / "damaged.html", frames, GRID, title="t").as_uri())
    settle(browser)
    message = browser.find_element("id", "message")
    time_slider = "const s = document.getElementById('time'); s.value = {}; s.dispatchEvent(new Event('input'))"
    browser.execute_script(time_slider.format(1))
    until(lambda: "damaged: write the page again" in message.text)
    after(browser, time_slider.format(0))
    assert not message.is_displayed()
    assert [entry for entry in browser.get_log("browser") if "Uncaught" in entry["message"]] == []
    lose = "window.lost = document.getElementById('canvas').getContext('webgl2').getExtension('WEBGL_lose_context')"
    browser.execute_script(lose + "; window.lost.loseContext()")
    until(lambda: "graphics card was reset" in message.text)
    browser.execute_script("window.lost.restoreContext()")
    until(lambda: browser.execute_script("return !window.lost"))  # it was loaded again
    settle(browser)
    assert colored(picture(browser), much="rb", little="g") > 3000  # the road
