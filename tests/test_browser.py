"""The page of a job in headless Chromium: it fits, loads nothing, and follows the theme."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from test_page import page_of

CHROMIUM = shutil.which("chromium")
WORDS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--hide-scrollbars",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# A frame has the width of a telephone, which a window of Chromium cannot have.
FRAME = """<!doctype html><body><iframe id=f style="width:{width}px;height:900px;border:0"
srcdoc="{page}"></iframe><script>onload = () => {{ const root = document.getElementById("f")
.contentDocument.documentElement; document.title = root.scrollWidth + " of " + root.clientWidth;
}}</script>"""


def chromium(tmp_path, *words):
    return subprocess.run(
        [CHROMIUM, *WORDS, f"--user-data-dir={tmp_path}/profile", *words],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_does_not_overflow(sealed, tmp_path, width):
    page = page_of(sealed).replace("<details>", "<details open>")
    outer = tmp_path / "outer.html"
    outer.write_text(FRAME.format(width=width, page=page.replace('"', "&quot;")))
    done = chromium(tmp_path, "--dump-dom", f"file://{outer}")
    told = re.search(r"<title>(\d+) of (\d+)</title>", done.stdout)
    assert told is not None, done.stderr
    assert int(told[1]) <= int(told[2]) == width


def test_themes_differ_and_nothing_is_complained_of(sealed, tmp_path):
    pictures = []
    for words in ((), ("--blink-settings=preferredColorScheme=0",)):
        picture = tmp_path / f"{len(pictures)}.png"
        done = chromium(
            tmp_path, *words, f"--screenshot={picture}", f"file://{sealed.root}/report.html"
        )
        assert "CONSOLE" not in done.stderr
        pictures.append(picture.read_bytes())
    assert pictures[0] != pictures[1]
