"""The page and the picture as a real browser lays them out, in light and in dark."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from suite.pictured import host, many, many_over_channels, named, whole

from vfio_migration.drawing.page import html_page
from vfio_migration.drawing.picture import write_plot
from vfio_migration.scenarios.runner import Result

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCHEMES = {"dark": 0, "light": 1}  # as Blink numbers them
WIDTH = 1280


@cache
def browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


pytestmark = pytest.mark.skipif(browser() is None, reason=f"no browser is installed (none of {', '.join(BROWSERS)})")

# What all checks share: where each visible piece of text lies, and how far its colour is from what it stands on.
COMMON = """
const texts = (root) => {
  const found = [], walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script, style, [hidden]")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    found.push({ text: node.data.trim(), box: range.getBoundingClientRect(), element: parent });
  }
  return found;
};
const overlapping = (boxes) => {
  const found = [];
  boxes.forEach((a, place) => boxes.slice(place + 1).forEach((b) => {
    const width = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
    const height = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
    if (width > 1 && height > 1) found.push([a.text, b.text]);
  }));
  return found;
};
const outside = (boxes) => boxes.filter(({ box }) => box.left < 0 || box.right > innerWidth).map(({ text }) => text);
const light = (colour) => {
  const [red, green, blue] = colour.match(/[0-9.]+/g).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const contrast = (one, other) => {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const ground = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)") return colour;
  }
  return "rgb(255, 255, 255)";
};
const answer = (found) => {
  const element = document.createElement("pre");
  element.id = "checked";
  element.textContent = JSON.stringify(found);
  document.body.append(element);
};
"""

PAGE = """
const all = texts(document.body), bars = [...document.querySelectorAll(".bar")];
const scroll = document.querySelector(".scroll");
answer({
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  background: getComputedStyle(document.body).backgroundColor,
  texts: all.map(({ text }) => text),
  overlapping: overlapping(all),
  outside: outside(all),
  cut: [...document.querySelectorAll(".name")].filter((each) => each.scrollWidth > each.clientWidth + 1)
    .map((each) => each.textContent),
  smallest: Math.min(...all.map(({ element }) => parseFloat(getComputedStyle(element).fontSize))),
  sideways: document.scrollingElement.scrollWidth > innerWidth,
  chart_sideways: scroll.scrollWidth > scroll.clientWidth,
  faint: all.filter(({ element }) => contrast(getComputedStyle(element).color, ground(element)) < 4.5)
    .map(({ text }) => text),
  bars: bars.length,
  thinnest: Math.min(...bars.map((bar) => bar.getBoundingClientRect().width)),
  faint_bars: [...new Set(bars.map((bar) => bar.className))].filter((kind) => {
    const bar = document.querySelector(`[class="${kind}"]`);
    return contrast(getComputedStyle(bar).borderTopColor, ground(bar.parentElement)) < 3;
  }),
  astray: bars.filter((bar) => {
    const box = bar.getBoundingClientRect(), track = bar.parentElement.getBoundingClientRect();
    return box.left < track.left - 1 || box.right > track.right + 3 || box.top < track.top || box.bottom > track.bottom;
  }).length,
  bounds: [...document.querySelectorAll(".lines .bound")].map((line) => line.getBoundingClientRect().height),
});
"""

# A window may get the focus later than its page is loaded. Until then an element that has the focus within the page
# matches no `:focus`, and is told nothing: both are done in the window's place.
FOCUSED = """
for (const sheet of document.styleSheets) {
  for (const rule of [...sheet.cssRules]) {
    if (rule.selectorText?.includes(":focus")) {
      sheet.insertRule(rule.cssText.replaceAll(/:focus(-visible)?/g, ".has-focus"), sheet.cssRules.length);
    }
  }
}
const focus = HTMLElement.prototype.focus;
HTMLElement.prototype.focus = function () {
  let told = false;
  const hear = () => { told = true; };
  document.addEventListener("focusin", hear);
  focus.call(this);
  document.removeEventListener("focusin", hear);
  document.querySelector(".has-focus")?.classList.remove("has-focus");
  document.activeElement.classList.add("has-focus");
  if (!told) this.dispatchEvent(new FocusEvent("focusin", { bubbles: true }));
};
"""

KEYS = """
const steps = [], tip = document.getElementById("tip");
const seen = (step) => {
  const bar = document.activeElement, ring = getComputedStyle(bar);
  const box = tip.getBoundingClientRect();
  steps.push({
    step, bar: bar.getAttribute("aria-label"), tip: tip.hidden ? null : tip.textContent,
    ring: ring.outlineStyle === "none" ? 0 : parseFloat(ring.outlineWidth),
    stops: document.querySelectorAll('.bar[tabindex="0"]').length, in_order: bar.tabIndex,
    inside: tip.hidden || (box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight),
  });
};
const press = (key) => {
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  seen(key);
};
document.querySelector('.bar[tabindex="0"]').focus();
seen("Tab");
%s.forEach(press);
const over = document.querySelectorAll(".bar")[3];
over.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
const hovered = { label: over.getAttribute("aria-label"), tip: tip.textContent, hidden: tip.hidden };
over.dispatchEvent(new PointerEvent("pointerout", { bubbles: true }));
answer({ steps, hovered, left: tip.hidden ? null : tip.textContent });
"""

PICTURE = """
const groups = [...document.querySelectorAll('svg g[id^="text_"]')]
  .map((group) => ({ text: group.id, box: group.getBoundingClientRect() }));
const first = document.querySelector("svg path");
answer({
  texts: groups.length,
  overlapping: overlapping(groups),
  outside: outside(groups),
  smallest: Math.min(...groups.map(({ box }) => box.height)),
  ground: getComputedStyle(first).fill,
  covers: first.getBoundingClientRect().width >= document.querySelector("svg").getBoundingClientRect().width - 1,
  letters: document.querySelectorAll("svg text").length,
});
"""


def checked(page: str, script: str, directory: Path, scheme: str, width: int = WIDTH) -> dict[str, Any]:
    """Open a page with a script at its end, and give what that answered."""
    file = directory / "page.html"
    file.write_text(page.replace("</body>", f"<script>{COMMON}{script}</script></body>"), encoding="utf-8")
    command = [
        str(browser()),
        "--headless",
        "--no-sandbox",  # root in a container has none
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={directory / 'profile'}",
        f"--window-size={width},1600",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        "--dump-dom",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    found = re.search(r'<pre id="checked">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
    assert found, done.stderr.decode()[-2000:]
    answer: dict[str, Any] = json.loads(unescape(found[1]))
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("result", "labels"),
    [(host, 8), (lambda: many(64), 32), (whole, 4)],  # with all parts, each device has two lanes
    ids=["8 devices", "64 devices", "all parts"],
)
def test_the_page_is_readable(tmp_path: Path, scheme: str, result: Callable[[], Result], labels: int) -> None:
    found = checked(html_page(result()), PAGE, tmp_path, scheme)
    assert found["dark"] == (scheme == "dark")
    assert found["background"] == ("rgb(16, 21, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
    assert found["overlapping"] == found["outside"] == found["cut"] == found["faint"] == found["faint_bars"] == []
    assert not found["sideways"]
    assert not found["chart_sideways"]
    assert found["smallest"] >= 11
    assert found["thinnest"] >= 1
    assert found["astray"] == 0
    assert len(found["bounds"]) == 3
    assert min(found["bounds"]) > 100
    assert sum(text.startswith(("vf", "gpu")) and text.isalnum() for text in found["texts"]) == 2 * labels


@pytest.mark.slow
@pytest.mark.parametrize("result", [host, whole, many_over_channels], ids=["8 devices", "all parts", "thin lanes"])
def test_the_page_is_readable_in_a_narrow_window(tmp_path: Path, result: Callable[[], Result]) -> None:
    found = checked(html_page(result()), PAGE, tmp_path, "light", width=640)
    assert found["overlapping"] == found["outside"] == found["cut"] == []
    assert not found["sideways"]
    assert not found["chart_sideways"]


@pytest.mark.slow
def test_names_of_any_length_and_script_cover_nothing(tmp_path: Path) -> None:
    found = checked(html_page(named("W" * 60, "短い名前", "$x$")), PAGE, tmp_path, "light", width=640)
    assert found["overlapping"] == []
    assert not found["sideways"]  # the chart alone may have to be moved


def test_the_keys_go_from_bar_to_bar_and_show_details(tmp_path: Path) -> None:
    keys = ["ArrowRight", "End", "ArrowRight", "Home", "ArrowDown", "ArrowUp", "ArrowUp", "Escape", "ArrowRight"]
    found = checked(html_page(host()), FOCUSED + KEYS % json.dumps(keys), tmp_path, "light")
    steps = [(each["step"], each["bar"].split(", source:")[0].split(", destination:")[0]) for each in found["steps"]]
    labels = [each["bar"] for each in found["steps"]]
    assert [who for _, who in steps] == [
        "rng, plain",
        "rng, plain",
        "rng, plain",
        "rng, plain",
        "rng, plain",
        "virtio-balloon-device, depth 3",
        "rng, plain",
        "rng, plain",
        "rng, plain",
        "rng, plain",
    ]
    assert labels[0] == "rng, plain, source: handler, main pass, 1.0 ms, from 1,012.0 ms, 0.0 % of the switchover"
    assert labels[1] == labels[2] == labels[3] == labels[9] != labels[0] == labels[4] == labels[7]
    for each in found["steps"]:
        assert each["stops"] == 1
        assert each["in_order"] == 0
        assert each["ring"] >= 2
        assert each["inside"]
        if each["step"] == "Escape":
            assert each["tip"] is None
        else:
            assert ", ".join(each["tip"].split("\n")[:4]) == each["bar"]
    assert not found["hovered"]["hidden"]
    assert found["hovered"]["tip"].startswith(found["hovered"]["label"].split(",")[0])
    assert found["left"] == found["steps"][-1]["tip"]  # the details of what has the focus are shown again


def test_names_are_no_markup(tmp_path: Path) -> None:
    names = ("<script>document.title='owned'</script>", "</script><b>", "\"'><img src=x onerror=alert(1)>", "{{chart}}")
    script = """answer({
      names: [...document.querySelectorAll(".name")].map((each) => each.title),
      scripts: document.scripts.length, images: document.images.length, title: document.title,
    });"""
    found = checked(html_page(named(*names)), script, tmp_path, "light")
    assert sorted(filter(None, found["names"])) == sorted(names * 2)
    assert found["scripts"] == 2  # the page's own, and this test's
    assert found["images"] == 0
    assert found["title"].startswith("named <b>&amp;: switchover")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "result",
    [host, lambda: many(64), whole, many_over_channels],
    ids=["8 devices", "64 devices", "all parts", "thin lanes"],
)
def test_the_plot_is_readable(tmp_path: Path, scheme: str, result: Callable[[], Result]) -> None:
    pytest.importorskip("matplotlib")
    write_plot(result(), str(tmp_path / "plot.svg"))
    svg = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    page = f'<!DOCTYPE html><meta charset="utf-8"><body style="margin: 0">{svg[svg.index("<svg") :]}</body>'
    found = checked(page, PICTURE, tmp_path, scheme)
    assert found["texts"] > 30
    assert found["overlapping"] == found["outside"] == []
    assert found["smallest"] > 4  # "0" of the axis, at 8 points
    assert found["letters"] == 0  # text is drawn: no font is needed
    assert found["ground"] == "rgb(255, 255, 255)"
    assert found["covers"]
