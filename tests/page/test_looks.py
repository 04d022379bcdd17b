"""How the page looks and is reached: explanations, keyboard, contrast, widths; screenshots of it all.

`TFO_PROXY_SCREENSHOTS=DIR` keeps the screenshots.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.admin.chromium import DESKTOP, PHONE, Browser, Page
from tests.page.conftest import ANSWER, Life, opened, text

pytestmark = [pytest.mark.netns, pytest.mark.browser]

# Every visible text with its colour and the colour behind it, as WCAG 2.2 (1.4.3) compares them. Colours are read
# back from a canvas, so that whatever notation the style sheet uses becomes four bytes.
CONTRAST = """
(() => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const bytes = (colour, under) => {
    pen.clearRect(0, 0, 1, 1);
    if (under) { pen.fillStyle = `rgb(${under})`; pen.fillRect(0, 0, 1, 1); }
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = bytes(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour.slice(0, 3);
    }
    throw new Error("nothing behind " + node.outerHTML);
  };
  const light = (c) => c.slice(0, 3).map((v) => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || node.closest(".sr, .skip, noscript, option")) continue;
    if (!node.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(node);
    const under = behind(node);
    const over = bytes(node instanceof SVGElement ? style.fill : style.color, under);
    const [a, b] = [light(over), light(under)].sort((x, y) => y - x);
    const ratio = Math.round(100 * (a + 0.05) / (b + 0.05)) / 100;
    const text = walk.currentNode.data.trim().slice(0, 20);
    const name = `${node.tagName}.${node.getAttribute("class") ?? ""} ${text}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
})()
"""

# Everything that the Tab key reaches, in its order, with what shows that it is there.
FOCUSED = """
(() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const box = node.getBoundingClientRect();
  const name = node.id || node.dataset.term || node.className.baseVal || node.className || node.tagName;
  return [name, style.outlineStyle, parseFloat(style.outlineWidth), box.width * box.height];
})()
"""


def show_everything(page: Page) -> None:
    page.run("document.getElementById('primer').open = true;"
             "document.querySelectorAll('.e-name, .s-name').forEach((e) => e.click())")  # fmt: skip
    page.until("document.querySelectorAll('.e-more:not([hidden]) .histogram').length > 0")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, (768, 1024), PHONE], ids=["desktop", "tablet", "phone"])
def test_contrast_widths_and_screenshots(
    browser: Browser, life: Life, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    page = opened(browser, life.url, size=size, dark=dark)
    page.until(
        "document.querySelectorAll('.endpoint').length > 2 && document.querySelectorAll('.session').length > 2"
    )
    folder = Path(os.environ.get("TFO_PROXY_SCREENSHOTS") or tmp_path)
    name = f"{size[0]}-{'dark' if dark else 'light'}"
    assert page.screenshot(folder / f"{name}.png").stat().st_size > 10_000
    show_everything(page)
    page.screenshot(folder / f"{name}-open.png")
    assert page.run("document.documentElement.scrollWidth") == size[0], "nothing sticks out"
    ratios: dict[str, float] = page.run(CONTRAST)
    assert len(ratios) > 80
    assert not {what: ratio for what, ratio in ratios.items() if ratio < 4.5}
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 3 * 60) == dark
    assert not page.complaints
    page.close()


def test_the_browser_can_be_as_narrow_as_phones_get(browser: Browser, life: Life) -> None:
    page = opened(browser, life.url, size=(320, 600))
    show_everything(page)
    assert page.run("document.documentElement.scrollWidth") == 320
    page.close()


def test_light_and_dark_by_choice(page: Page) -> None:
    def background() -> str:
        found: str = page.run("getComputedStyle(document.body).backgroundColor")
        return found

    light = background()
    assert page.text("#theme") == "Auto"
    page.click("#theme")
    page.prefer(dark=True)
    assert (page.text("#theme"), background()) == ("Light", light)
    page.click("#theme")
    page.prefer(dark=False)
    dark = background()
    assert page.text("#theme") == "Dark"
    assert dark != light
    page.call("Page.reload")
    page.until("document.readyState === 'complete' && document.getElementById('theme').innerText === 'Dark'")
    assert background() == dark, "it is remembered"
    page.click("#theme")
    assert (page.text("#theme"), background()) == ("Auto", light)


def explained(page: Page) -> Any:
    return page.run("document.getElementById('tip').hidden ? null : document.getElementById('tip').innerText")


def test_every_term_is_explained_on_hover(page: Page) -> None:
    terms: list[str] = page.run(
        "[...new Set([...document.querySelectorAll('[data-term]')].filter((e) => e.checkVisibility())"
        ".map((e) => e.dataset.term))]"
    )
    assert len(terms) > 20
    for term in terms:
        where = f"[data-term={term}]"
        page.run(f"document.querySelectorAll('{where}').forEach((e, i) => e.id ||= i + 'hovered-{term}')")
        first = page.run(f"[...document.querySelectorAll('{where}')].find((e) => e.checkVisibility()).id")
        page.hover(f"[id='{first}']")
        words = page.until(
            "!document.getElementById('tip').hidden && document.getElementById('tip').innerText"
        )
        assert len(words) > 30, term
        assert page.run(f"document.getElementById('{first}').getAttribute('aria-describedby')") == "tip"
        box = page.run("(() => { const b = document.getElementById('tip').getBoundingClientRect();"
                       " return [b.left, b.top, innerWidth - b.right, innerHeight - b.bottom]; })()")  # fmt: skip
        assert min(box) >= 0, f"{term} is explained where it can be seen"
        page.press("Escape")
        assert explained(page) is None


def test_a_standing_is_explained_too(page: Page, life: Life) -> None:
    page.click("#endpoints-find")
    page.type("quarantined")
    page.until("document.querySelectorAll('.e-name').length === 1")
    page.hover(".badge")
    assert page.until("document.getElementById('tip').innerText").startswith("Something on the way swallows")


def test_explanations_by_tap(browser: Browser, life: Life) -> None:
    page = opened(browser, life.url, size=PHONE)
    page.tap("#hero-title [data-term]")
    page.until("!document.getElementById('tip').hidden")
    assert explained(page).startswith("A message to the other computer")
    page.tap("#hero-words")
    page.until("document.getElementById('tip').hidden")
    page.close()


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page: Page) -> None:
    wanted: int = page.run(
        "[...document.querySelectorAll('a, button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter((e) => e.checkVisibility({visibilityProperty: true}) && !e.disabled).length"
    )
    reached: list[str] = []
    for _ in range(wanted):
        page.press("Tab")
        name, style, width, area = page.run(FOCUSED)
        reached.append(name)
        assert style not in {"none", ""}, f"{name} does not show that it is meant"
        assert width >= 2
        assert area > 0
    assert reached[0] == "skip"
    for one in (
        "theme",
        "round_trip",
        "minutes",
        "endpoints-find",
        "e-name",
        "badge",
        "sessions-hold",
        "s-name",
    ):
        assert one in reached, reached
    order = [reached.index(name) for name in ("theme", "endpoints-find", "sessions-find")]
    assert order == sorted(order)
    page.press("Tab")
    assert page.run(FOCUSED)[0] in {"BODY", "skip"}, "and then it leaves the page"


def test_explanations_by_keyboard(page: Page) -> None:
    page.click("#theme")
    page.run("document.getElementById('theme').focus()")
    page.press("Tab")
    assert explained(page).startswith("A message to the other computer")
    page.press("Escape")
    assert explained(page) is None


def test_minutes_by_keyboard(page: Page, life: Life) -> None:
    page.press("Tab")
    page.run("document.querySelector('svg.minutes').focus()")
    page.press("ArrowLeft")
    first = page.until("!document.getElementById('tip').hidden && document.getElementById('tip').innerText")
    assert "round trip" in first
    saved = page.run("document.getElementById('trips').textContent")
    life.ask(text(life.fast.address), expect=len(ANSWER))
    page.until(f"document.getElementById('trips').textContent !== {json.dumps(saved)}")
    assert page.run("document.querySelectorAll('.column.at').length") == 1, "news take nobody's place away"
    assert page.run("document.getElementById('tip').innerText") == first
    page.press("Tab")
    page.until("!document.querySelector('.column.at')")
    page.until(
        f"![...document.querySelectorAll('.column')].some((one) => one.dataset.tip === {json.dumps(first)})"
    )


def test_controls_have_names(page: Page) -> None:
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        node["role"]["value"]
        for node in tree
        if node.get("role", {}).get("value")
        in {"button", "combobox", "searchbox", "link", "image", "DisclosureTriangle"}
        and not node.get("ignored")
        and not node.get("name", {}).get("value")
    ]
    assert not nameless


def test_it_moves_only_where_that_is_wanted(page: Page) -> None:
    assert page.run("getComputedStyle(document.getElementById('content')).transitionDuration") == "0s"
