"""The report in a real browser: headless Chromium, skipped aloud where it or its driver is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.planner import Link, Wishes, evidence, options, read_evidence
from experiments.record import Record, Utility
from experiments.report.html import write_report
from experiments.report.plan_page import peeks, write_plan
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build
from tests.experiments.synthetic import record, scenario, write_run

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install -c constraints.txt playwright"
)

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs chromium: apt-get install -y chromium")


def _records() -> list[Record]:
    """Three cuts, three defenses, two seeds."""
    made = []
    for seed in (0, 1):
        asked = scenario(cuts=("relu1", "relu2", "relu3"), seed=seed)
        for depth, cut in enumerate(("relu1", "relu2", "relu3")):
            for defense, less in (("none", 0.0), ("gaussian_noise sigma=0.5", 0.2), ("nopeek weight=5.0", 0.1)):
                level = 0.9 - 0.2 * depth - less + 0.02 * seed
                ssim = [level + 0.005 * victim for victim in range(20)]
                attacks = {"regularized_inversion": ssim, "inverse_network": [s - 0.1 for s in ssim]}
                key = f"{cut}-{defense.split()[0]}-{seed}"
                utility = Utility(
                    train_accuracy=1.0,
                    accuracy=0.97,
                    accuracy_defended=0.97 - less,
                    accuracy_over_wire=0.97 - less,
                    evaluator_accuracy=0.95,
                )
                made.append(record(asked, cut, defense, attacks, key=key, utility=utility))
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")), executable_path=CHROMIUM, headless=True, args=FLAGS
        )
        yield context
        context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("run"), _records()))


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    page = browser.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else page.complaints.append(request.url),
    )
    page.goto(report.as_uri())
    yield page
    assert not page.complaints
    page.close()


@pytest.mark.parametrize("kind", ["tradeoff", "depth"])
def test_pointing_at_a_mark_shows_its_reconstructions(page: Any, kind: str) -> None:
    chart = page.locator(f"#{kind}-0")
    assert chart.locator(".card:visible").count() == 1, "one is shown before any is pointed at"
    assert chart.locator(".point.shown").count() == 1
    point = chart.locator(".point").nth(2)
    point.hover()
    card = chart.locator(".card:visible")
    assert card.count() == 1
    assert card.get_attribute("id") == point.get_attribute("data-card")
    assert "SSIM" in card.inner_text()
    assert card.locator("img").count() == 12, "six victims, private and rebuilt"
    other = chart.locator(".point").nth(0)
    other.hover()
    assert chart.locator(".card:visible").count() == 1


@pytest.mark.parametrize(("kind", "marks"), [("tradeoff", 3), ("depth", 6)])
def test_every_mark_is_reached_by_keyboard(page: Any, kind: str, marks: int) -> None:
    chart = page.locator(f"#{kind}-0")
    points = chart.locator(".point")
    chart.locator(".point[tabindex='0']").focus()
    page.keyboard.press("Home")
    seen = {chart.locator(".card:visible").get_attribute("id")}
    for _ in range(points.count() - 1):
        page.keyboard.press("ArrowRight")
        seen.add(chart.locator(".card:visible").get_attribute("id"))
    assert len(seen) == points.count() == marks


def test_pictures_are_not_blank(page: Any) -> None:
    spreads = page.evaluate(
        """async () => {
          const spreads = [];
          for (const image of document.images) {
            if (!image.src) continue;  // the gallery's inspector before anything is pointed at
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 == 0);
            spreads.push(Math.max(...pixels) - Math.min(...pixels));
          }
          return spreads;
        }"""
    )
    assert len(spreads) > 100
    assert min(spreads) > 50


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_its_text_is_legible(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert abs(_lightness(ink) - _lightness(paper)) > 150
    assert (_lightness(paper) < 100) == (scheme == "dark")


def _lightness(colour: str) -> float:
    return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 3


def test_a_plan_shows_the_evidence_of_the_mark_that_is_pointed_at(browser: Any, tmp_path: Path) -> None:
    known = [made for made in _records() if "nopeek" not in made.defense]  # of which its scenario knows nothing
    folder, spec = write_run(tmp_path, known), TensorSpec((1, 28, 28), low=0.0, high=1.0)
    found = read_evidence(folder, "lenet")
    link, wishes = Link(10.0, 40.0), Wishes(latency_ms=80, leakage=0.5)
    answers = options(evidence(found, "ssim"), build("lenet", spec, 10).eval(), spec, 10, link, wishes, repeats=0)
    path = write_plan(
        folder / "plan.html", "lenet", "digits", answers, link, wishes, "ssim", peeks(folder, found, answers)
    )
    page, complaints = browser.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    points = page.locator(".point")
    assert points.count() == 6
    points.nth(4).hover(force=True)
    card = page.locator(".card:visible")
    assert card.count() == 1
    assert answers[4].evidence.keys[0] in card.inner_text()
    assert card.locator("img").count() == 12, "six victims, private and rebuilt"
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not complaints
    page.close()


def test_reports_of_people_show_no_picture_unless_asked(browser: Any, tmp_path: Path) -> None:
    private = {"name": "faces", "classes": 10, "input_shape": [1, 8, 8], "sizes": {}, "shareable": False}
    folder = write_run(tmp_path, [made.model_copy(update={"dataset": private}) for made in _records()])
    page = browser.new_page()
    page.goto(write_report(folder).as_uri())
    assert page.locator("img[src^='data:']").count() == 0
    assert page.get_by_text("Pictures are left out").count() == 1
    page.goto(write_report(folder, pictures=True).as_uri())
    assert page.locator("img[src^='data:']").count() > 100
    page.close()
