"""The report says what the records say, keeps private pictures in, and asks the network for nothing."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.record import Record, RecordError, pictures_path, write_manifest
from experiments.report import wording
from experiments.report.html import write_report
from split_models.checkpoints import CheckpointError
from tests.experiments.synthetic import leakage, pictures, record, scenario, write_run

STRONG = [0.9 + 0.001 * i for i in range(20)]
WEAK = [0.2] * 20
EVIL = "<script>alert('x')</script>&\"quoted\""
VOID = {"meta", "img", "br", "wbr", "line", "path", "link", "input"}


class Page(HTMLParser):
    """Text, attributes and elements of a page; fails on tags that do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, with single spaces."""
        return re.sub(r"\s+", " ", "".join(self.words))

    @property
    def sources(self) -> list[str]:
        """Where pictures come from."""
        return [
            attributes.get("src") or "" for tag, attributes in self.elements if tag == "img" and "src" in attributes
        ]


def two_by_two() -> list[Record]:
    """Two cuts under two defenses, one attack refused."""
    asked, why = scenario(), "shadow_model needs tail, which the threat model does not grant"
    return [
        record(asked, cut, defense, {"regularized_inversion": first, "inverse_network": second, "shadow_model": why})
        for cut, defense, first, second in [
            ("relu1", "none", STRONG, WEAK),
            ("relu1", "gaussian_noise sigma=0.5", WEAK, [0.6] * 20),
            ("relu2", "none", [0.7] * 20, WEAK),
            ("relu2", "gaussian_noise sigma=0.5", [0.15] * 20, [0.25] * 20),
        ]
    ]


def decoded(source: str) -> Image.Image:
    """The picture behind a data URI."""
    kind, content = source.split(",", 1)
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def test_a_report_asks_the_network_for_nothing(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path, two_by_two())))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:image/png;base64,")), (tag, name, target)
    raw = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(", raw)
    assert "default-src 'none'" in raw


def test_every_attack_has_its_figures_intervals_and_floors(tmp_path: Path) -> None:
    records = two_by_two()
    text = Page(write_report(write_run(tmp_path, records))).text
    for made in records:
        assert made.cut in text
        assert made.defense in text or made.defense == "none"
        for attack in made.attacks:
            assert attack.label in text
            if attack.leakage:
                for measure in ("ssim", "psnr_db", "identification"):
                    summary = getattr(attack.leakage, measure)
                    assert f"{wording.value(measure, summary.mean)} {wording.interval(measure, summary)}" in text
    assert "mean image" in text and "nearest auxiliary image" in text
    assert "0.10 [0.10, 0.10]" in text and "0.30 [0.30, 0.30]" in text


def test_the_worst_case_is_marked_in_words_and_is_the_largest(tmp_path: Path) -> None:
    text = Page(write_report(write_run(tmp_path, two_by_two()))).text
    rows = re.findall(r"SSIM ((?:▲worst case: )?)(\d\.\d\d) \[[^]]*\] ((?:▲worst case: )?)(\d\.\d\d) \[", text)
    assert [(bool(a), float(x), bool(b), float(y)) for a, x, b, y in rows] == [
        (True, 0.91, False, 0.2),
        (False, 0.2, True, 0.6),
        (True, 0.7, False, 0.2),
        (False, 0.15, True, 0.25),
    ]


def test_the_verdict_names_the_extremes_the_strongest_attack_and_the_price(tmp_path: Path) -> None:
    records = two_by_two()
    told = wording.verdict(records)
    assert "Most leaks at cut relu1 without a defense: regularized_inversion rebuilds" in told
    assert "SSIM 0.91" in told
    assert "Least leaks at cut relu2 under gaussian_noise sigma=0.5: inverse_network" in told
    assert "from 97.0\u00a0% to 92.0\u00a0% (\u22125.0 points)" in told
    assert "Nowhere" not in told
    assert "Nowhere did an attack come closer" in wording.verdict(records[3:])


@pytest.mark.parametrize(
    ("ssim", "words"),
    [
        (0.9, "closer to the private images than"),
        (0.303, "no closer than the nearest image"),
        (0.2, "further off than the nearest image"),
        (0.101, "not measurably better than the mean image"),
        (0.05, "not measurably better than the mean image"),
    ],
)
def test_a_finding_compares_with_the_floors(ssim: float, words: str) -> None:
    assert words in wording.finding(record(scenario(), "relu1", "none", {"inverse_network": [ssim] * 20}))


def test_a_refusal_is_shown_with_its_reason(tmp_path: Path) -> None:
    text = Page(write_report(write_run(tmp_path, two_by_two()))).text
    assert "refused: shadow_model needs tail, which the threat model does not grant" in text


def test_a_run_in_which_everything_was_refused_says_so(tmp_path: Path) -> None:
    refused = record(scenario(), "relu1", "none", {"inverse_network": "no queries granted"})
    text = Page(write_report(write_run(tmp_path, [refused]))).text
    assert "No attack could run" in text and "no queries granted" in text


def test_names_are_escaped_wherever_they_come_from(tmp_path: Path) -> None:
    made = record(
        scenario(description=EVIL, defenses=[{"name": EVIL}]),
        f"relu1{EVIL}",
        EVIL,
        {f"mine {EVIL}": STRONG, "other": EVIL},
    )
    made = made.model_copy(
        update={
            "key": "plain",
            "warnings": [EVIL],
            "dataset": {**made.dataset, "name": EVIL, EVIL: EVIL},
            "provenance": {"commit": EVIL, "versions": {EVIL: EVIL}},
            "timing": {EVIL: 1.0},
            "attacks": [a.model_copy(update={"settings": {EVIL: EVIL}, "notes": {EVIL: [EVIL]}}) for a in made.attacks],
            "victims": [v.model_copy(update={"owner": EVIL}) for v in made.victims],
        }
    )
    for embed in (True, False):
        path = write_report(write_run(tmp_path, [made]), pictures=embed)
        page = Page(path)
        assert [tag for tag, _ in page.elements].count("script") == 1
        assert "<script>alert" not in path.read_text()
        assert EVIL in page.text


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_files_own_pixels(tmp_path: Path, channels: int) -> None:
    records = two_by_two()
    page = Page(write_report(write_run(tmp_path, records, channels)))
    expected = (pictures(records[0], channels)["private"] * 255).round().to(torch.uint8).numpy()
    shown = [np.asarray(decoded(source)) for source in page.sources]
    # Per cut: private, two attacks under two defenses, two floors; and three rows of six in the opening.
    assert len(shown) == 2 * 12 * (1 + 4 + 2) + 3 * 6
    assert {image.shape for image in shown} == {(8, 8) if channels == 1 else (8, 8, 3)}
    assert all(image.std() > 0 for image in shown)
    private = {image.tobytes() for image in expected.transpose(0, 2, 3, 1)}
    assert sum(image.tobytes() in private for image in shown) == 2 * 12 + 6


def test_pictures_of_data_that_may_not_be_shared_stay_out_unless_asked(tmp_path: Path) -> None:
    private = two_by_two()
    private[1].dataset["shareable"] = False
    folder = write_run(tmp_path, private)
    left_out = Page(write_report(folder))
    assert left_out.sources == []
    assert "data:image" not in (tmp_path / "report.html").read_text()
    assert "Pictures are left out" in left_out.text and "--pictures" in left_out.text
    asked = Page(write_report(folder, pictures=True))
    assert asked.sources and "Pictures are left out" not in asked.text
    assert Page(write_report(write_run(tmp_path, two_by_two()), pictures=False)).sources == []


def test_a_data_set_that_does_not_say_is_private(tmp_path: Path) -> None:
    made = two_by_two()
    del made[0].dataset["shareable"]
    assert Page(write_report(write_run(tmp_path, made))).sources == []


def test_one_victim_and_one_attack_have_no_intervals(tmp_path: Path) -> None:
    made = record(
        scenario(), "relu1", "none", {"inverse_network": [0.5]}, victims=[3], floors={"mean_image": leakage([0.1])}
    )
    page = Page(write_report(write_run(tmp_path, [made])))
    assert not re.search(r"\[-?\d+(\.\d+)?, ", page.text.replace("[0, 1]", ""))
    assert "95 % interval" not in page.text and "With a single victim there are no intervals" in page.text
    assert "worst case: " not in page.text


def test_figures_have_a_title_and_a_description(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path, two_by_two())))
    ids = {attributes.get("id") for _, attributes in page.elements}
    plots = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(plots) == 2
    for plot in plots:
        assert plot["role"] == "img" and set((plot["aria-labelledby"] or "").split()) <= ids
    assert "gaussian_noise sigma=0.5: regularized_inversion 0.20, inverse_network 0.60" in page.text


def test_links_lead_somewhere_and_ids_are_unique(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path, two_by_two())))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a"} <= set(ids)


def test_warnings_come_once_with_their_trials(tmp_path: Path) -> None:
    made = two_by_two()
    for one in made[:2]:
        one.warnings.append("a mask that never moved")
    page = Page(write_report(write_run(tmp_path, made)))
    assert page.text.count("a mask that never moved") == 1
    assert "relu1 · none, relu1 · gaussian_noise sigma=0.5" in page.text


def test_a_missing_file_of_pictures_is_said_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    made = two_by_two()
    folder = write_run(tmp_path, made)
    pictures_path(folder, made[0].key).unlink()
    assert "The pictures of relu1 · none are not in the run's folder" in Page(write_report(folder)).text
    pictures_path(folder, made[1].key).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot read"):
        write_report(folder)


def test_a_scenario_of_another_version_is_an_error(tmp_path: Path) -> None:
    made = two_by_two()
    made[1].scenario["surprise"] = 1
    with pytest.raises(RecordError, match="surprise"):
        write_report(write_run(tmp_path, made))


def test_unfinished_trials_are_counted(tmp_path: Path) -> None:
    made = two_by_two()
    folder = write_run(tmp_path, made[:2])
    write_manifest(folder, "by-hand", [one.key for one in made])
    assert "2 trials not finished and not shown" in Page(write_report(folder)).text


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no run"):
        write_report(tmp_path)
