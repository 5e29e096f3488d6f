"""Pages in headless Chromium: they fit, load nothing, complain of nothing and can be read."""

from __future__ import annotations

from io import BytesIO

import pytest
from chromium import PROGRAM, Chromium
from PIL import Image
from test_page import large_page, page_of, page_of_a_sweep

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")

PHONE, DESK = 360, 1280
MARGIN = 12
# A sheet of 8.5 inches without Chromium's margins of 1 cm, at 96 pixels an inch.
SHEET = 739
MIB = 2**20

# What is wrong with a page, each with its text. What scrolls on its own may be wider than the page.
FAULTS = """(() => {
const found = [], all = [...document.querySelectorAll('body *')];
const say = (what, element) => found.push(`${what}: ${element.textContent.slice(0, 60)}`);
const shown = all.filter(e => e.checkVisibility() && e.getBoundingClientRect().width);
const whole = document.documentElement;
if (whole.scrollWidth > innerWidth) found.push(`the page is ${whole.scrollWidth} wide`);
for (const element of shown) {
    const {left, right} = element.getBoundingClientRect();
    const scrolls = element.parentElement.closest('.scroll');
    const free = scrolls && getComputedStyle(scrolls).overflowX === 'auto';
    if (!free && (left < -0.5 || right > innerWidth + 0.5)) say('cut off', element);
}
for (const chart of document.querySelectorAll('svg')) {
    const texts = [...chart.querySelectorAll('text')], around = chart.getBoundingClientRect();
    const boxes = texts.map(each => each.getBoundingClientRect());
    boxes.forEach((box, i) => {
        const scale = around.width / chart.viewBox.baseVal.width;
        const size = scale * parseFloat(getComputedStyle(texts[i]).fontSize);
        if (size < 10) say(`letters of ${size} pixels`, texts[i]);
        if (box.left < around.left - 1 || box.right > around.right + 1
            || box.top < around.top - 1 || box.bottom > around.bottom + 1)
            say('outside of its chart', texts[i]);
        // Boxes are higher than digits are: those of labels may touch.
        boxes.slice(i + 1).forEach((other, j) => {
            if (box.left < other.right && other.left < box.right
                && box.top + 4 < other.bottom && other.top + 4 < box.bottom)
                say(`over ${texts[i].textContent}`, texts[i + 1 + j]);
        });
    });
}
const light = colour => {
    const parts = colour.match(/[\\d.]+/g).map(Number);
    const [r, g, b] = parts.map(v => v / 255).map(
        v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === 'rgba(0, 0, 0, 0)' && element !== document.body
        ? ground(element.parentElement) : colour;
};
for (const element of shown) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const pair = [style[element.closest('svg') ? 'fill' : 'color'], ground(element)].map(light);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < 4.5 || style.opacity < 1) say(`contrast ${contrast.toFixed(1)}`, element);
}
return [...new Set(found)];
})()"""


def painted(picture):
    """How many colours the outermost pixels to the left and to the right have, where no text is."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    edges = [(0, MARGIN), (image.width - MARGIN, image.width)]
    strips = [image.crop((left, 0, right, image.height)) for left, right in edges]
    return max(len(strip.getcolors(1 << 24)) for strip in strips)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(params=["job", "large", "sweep"])
def path(request, sealed, tmp_path):
    """A page whose every part is open: as sealed, with all there may be in it, and of a sweep."""
    if request.param == "job":
        page = page_of(sealed)
    else:
        page = large_page(sealed) if request.param == "large" else page_of_a_sweep()
    path = tmp_path / "report.html"
    path.write_text(page.replace("<details>", "<details open>"))
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_page_from_disk_fits_is_readable_and_loads_nothing(browser, path, width, theme):
    assert path.stat().st_size < 2 * MIB
    page = browser.open(path, width=width, theme=theme)
    assert page.value("innerWidth") == width
    assert page.value("document.querySelectorAll('svg').length") > 0
    assert page.value(FAULTS) == []
    assert page.requests() == [path.as_uri()]
    assert page.complaints() == []
    bright = page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert bright == (theme == "light")


def test_nothing_is_painted_over_the_margins(browser, path):
    assert painted(browser.open(path, width=PHONE).screenshot()) == 1


def test_a_page_is_printed_whole(browser, path):
    page = browser.open(path, width=SHEET, media="print")
    assert page.value(FAULTS) == []
    assert page.pdf().startswith(b"%PDF-")
    assert page.complaints() == []


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("<img src=http://127.0.0.1:9/x.png>", "network: Failed to load resource"),
        ("<script>console.warn('w')</script>", "warning: ['w']"),
        ("<script>nothing.there</script>", "ReferenceError: nothing is not defined"),
    ],
)
def test_a_page_that_loads_or_complains_is_caught(browser, tmp_path, inner, said):
    path = tmp_path / "bad.html"
    path.write_text(f"<!doctype html><title>bad</title><body>{inner}")
    page = browser.open(path, width=DESK)
    assert any(complaint.startswith(said) for complaint in page.complaints())
    loads = ["http://127.0.0.1:9/x.png"] if "<img" in inner else []
    assert page.requests() == [path.as_uri(), *loads]


def test_what_the_policy_of_a_page_forbids_is_caught(browser, sealed, tmp_path):
    path = tmp_path / "report.html"
    foreign = "<script>document.title = 'ran'</script><img src=http://127.0.0.1:9/x.png></body>"
    path.write_text(page_of(sealed).replace("</body>", foreign))
    page = browser.open(path, width=DESK)
    assert page.complaints().count("issue: ContentSecurityPolicyIssue") == 2
    assert page.value("document.title") != "ran"


@pytest.mark.parametrize(
    ("inner", "fault"),
    [
        ("<p style='width:500px'>wide", "the page is"),
        ("<p style='position:absolute;left:-9px'>left", "cut off: left"),
        ("<p style='color:#999'>pale", "contrast 2.8: pale"),
        ("<p style='opacity:.5'>faint", "contrast 21.0: faint"),
        ("<svg viewBox='0 0 360 99'><text x=340 y=20>outside", "outside of its chart: outside"),
        ("<svg viewBox='0 0 360 99'><text y=20>one</text><text y=22>two", "over one: two"),
        ("<svg viewBox='0 0 999 99'><text y=20>small", "letters of"),
    ],
)
def test_what_cannot_be_read_is_caught(browser, tmp_path, inner, fault):
    path = tmp_path / "bad.html"
    path.write_text(f"<!doctype html><body style='background:#fff'>{inner}")
    found = browser.open(path, width=PHONE).value(FAULTS)
    assert any(each.startswith(fault) for each in found), found


def test_what_is_painted_over_the_margin_is_caught(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<!doctype html><p style='width:300px;white-space:nowrap'>" + 20 * "too wide ")
    assert painted(browser.open(path, width=PHONE).screenshot()) > 1
