"""python scripts/photograph.py docs

Photographs the page of the lecture's example for the README: `graph.png` at the step where the
gradients of two paths are added, `graph-steps.png` at three steps, in both themes. It needs
Chromium, and `pip install -e '.[browser]'`.
"""

import dataclasses
import html
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

import funcnet as fn
from funcnet._files import write_whole
from funcnet.runs import run_program
from funcnet.runs.commands.trace import EXAMPLES

SUM = 13
"""The step at which the adjoint of `a` is the sum over two paths."""

STEPS = (5, 12, SUM)
"""Forward to `d`, backward to `b`, and that sum."""

FRAME = '<iframe width="760" height="500" srcdoc="{}"></iframe>'

SHEET = """<style>
  body {{ margin: 0; display: grid; grid-template-columns: auto auto; gap: 12px; padding: 12px;
    background: #848e99; }}
  iframe {{ border: 0; }}
</style>{}"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Photograph the page of the lecture's example at three steps, in both themes."""

    folder: tyro.conf.Positional[Path]
    """Where graph.png and graph-steps.png are written."""


def photographs(page: str, browser: Any) -> Iterator[tuple[str, bytes]]:
    """The pictures, as PNG, with their names."""
    tab = browser.new_page(viewport={"width": 1100, "height": 640})
    tab.set_content(page)
    tab.evaluate(f"theme('light'); go({SUM})")
    yield "graph.png", tab.screenshot()
    tab = browser.new_page(viewport={"width": 1556, "height": 1548})
    without_panel = page.replace("</style>", "aside { display: none; }</style>", 1)
    tab.set_content(SHEET.format(2 * len(STEPS) * FRAME.format(html.escape(without_panel))))
    looks = [(step, theme) for step in STEPS for theme in ("light", "dark")]
    for frame, (step, theme) in zip(tab.frames[1:], looks, strict=True):
        frame.evaluate(f"theme('{theme}'); fit(); go({step})")
    yield "graph-steps.png", tab.screenshot()


def smaller(picture: bytes) -> bytes:
    """The same in 128 colours: half the size, and no difference to be seen."""
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(128).save(file, "PNG", optimize=True)
    return file.getvalue()


def main(options: Options) -> None:
    """Traces, opens a browser, and writes the pictures."""
    from playwright.sync_api import sync_playwright  # only here: of the extra `browser`

    if not options.folder.is_dir():
        raise fn.UsageError(f"folder: expected one that exists; got {str(options.folder)!r}.")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise OSError("expected Chromium on the path: apt-get install chromium.")
    function, args = EXAMPLES["lecture"]()
    page = fn.graph.draw.page(fn.trace(function)(*args))
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        for name, picture in photographs(page, browser):
            write_whole(options.folder / name, smaller(picture))


if __name__ == "__main__":
    run_program(Options, main)
