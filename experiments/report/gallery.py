"""The gallery: which victims are shown, and their pictures as PNG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from experiments.record import AttackOutcome, Leakage, Record, pictures_path
from experiments.report.tables import by_cut
from experiments.report.wording import extremes, worst_case
from split_models.checkpoints import load_tensors

SHOWN = 12
"""Victims per cut: a third that leak most, a third around the median, a third that leak least."""

MAX_SIDE = 96
"""Larger pictures are scaled down to this many pixels a side, so that a report stays a few megabytes."""

CELL_SIDE = 64
"""Pixels on the screen that a picture may take: small ones are enlarged by a whole factor, so that pixels stay even."""

FLOORS = {"nearest_auxiliary": "nearest auxiliary image", "mean_image": "mean image"}


@dataclass(frozen=True)
class Picture:
    """One cell: a picture where there is one, and its figures where it is a reconstruction."""

    source: str | None  # data URI
    spoken: str  # the cell in words
    ssim: float | None = None
    psnr_db: float | None = None
    read: bool | None = None  # did the independent classifier read the label off


@dataclass(frozen=True)
class Strip:
    """One row of a gallery; a refused attack has a reason and no pictures."""

    label: str
    pictures: list[Picture]
    reason: str = ""


@dataclass(frozen=True)
class Block:
    """The rows under one heading: a defense, or the floors."""

    heading: str
    strips: list[Strip]


@dataclass(frozen=True)
class Column:
    """A victim's heading."""

    index: int
    owner: str
    label: int


@dataclass(frozen=True)
class Gallery:
    """One cut: victims as columns in named groups, rows in blocks."""

    cut: str
    columns: list[Column]
    groups: list[tuple[str, int]]  # name, columns
    private: Strip
    blocks: list[Block]
    missing: list[str]  # trials whose pictures are gone
    cell_px: int


def galleries(folder: Path, records: Sequence[Record], pictures: bool) -> list[Gallery]:
    """One gallery for each cut; without `pictures` the cells hold figures only.

    Raises:
        split_models.checkpoints.CheckpointError: a file of pictures is broken.
    """
    return [_gallery(folder, cut, members, pictures) for cut, members in by_cut(records).items()]


def glimpse(folder: Path, records: Sequence[Record]) -> list[Strip]:
    """Six victims, private and as the worst and the best trial's strongest attack rebuilt them; empty without pictures.

    Raises:
        split_models.checkpoints.CheckpointError: a file of pictures is broken.
    """
    found = extremes(records)
    if found is None or not all(pictures_path(folder, record.key).exists() for record, _ in found):
        return []
    (most, _), (least, _) = found
    chosen, _ = choose([most] if least is most else [most, least], shown=6)
    images = load_tensors(pictures_path(folder, most.key))[0]
    private = [Picture(_source(images, "private", _rows(most)[i]), f"Victim {i}: private image") for i in chosen]
    strips = [Strip("private", private)]
    for record, worst in found[: 1 if least is most else 2]:
        images = load_tensors(pictures_path(folder, record.key))[0]
        strip = _strip(worst, record, images, chosen)
        strips.append(
            Strip(f"{record.cut}, {'no defense' if record.defense == 'none' else record.defense}", strip.pictures)
        )
    return strips


def beside(folder: Path, record: Record, attack: AttackOutcome, chosen: Sequence[int]) -> list[Strip]:
    """Chosen victims, private and as one attack rebuilt them; empty where the pictures are gone.

    Raises:
        split_models.checkpoints.CheckpointError: a file of pictures is broken.
    """
    path = pictures_path(folder, record.key)
    if not path.exists():
        return []
    images, rows = load_tensors(path)[0], _rows(record)
    private = [Picture(_source(images, "private", rows[i]), f"Victim {i}: private image") for i in chosen]
    rebuilt = _strip(attack, record, images, chosen)
    return [Strip("private", private), Strip("rebuilt", rebuilt.pictures)]


def data_uri(image: Tensor) -> str:
    """An image (C, H, W) in [0, 1] as a PNG data URI; one or three channels, others are averaged to grey.

    A series (C, L) is drawn as a line for each channel.
    """
    if image.ndim == 2:
        return _encoded(_drawn(image))
    if image.shape[0] not in (1, 3):
        image = image.mean(0, keepdim=True)
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return _encoded(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _drawn(series: Tensor) -> Image.Image:
    """Lines in black on white, from 0 at the bottom to 1 at the top."""
    side = 4 * MAX_SIDE  # scaled down afterwards, which smooths the lines
    picture = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(picture)
    across = torch.linspace(8, side - 8, series.shape[1])
    for channel in series.clamp(0, 1):
        points = zip(across.tolist(), (side - 8 - (side - 16) * channel).tolist(), strict=True)
        pen.line(list(points), fill=0, width=8, joint="curve")
    return picture


def _encoded(picture: Image.Image) -> str:
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def choose(records: Sequence[Record], shown: int = SHOWN) -> tuple[list[int], list[tuple[str, int]]]:
    """Victims of one cut by how much leaks of them, most first, with the groups that they form.

    A victim's leakage is its SSIM under each defense's worst-case attack, averaged over the defenses.
    """
    rows = [_rows(record) for record in records]
    common = [index for index in rows[0] if all(index in other for other in rows)]
    leaks = dict.fromkeys(common, 0.0)
    for record, row in zip(records, rows, strict=True):
        worst = worst_case(record)
        if worst and worst.leakage:
            for index in common:
                leaks[index] += worst.leakage.per_victim["ssim"][row[index]]
    # Ties fall to the lower index, so that the same records choose the same victims.
    ranked = sorted(common, key=lambda index: (-leaks[index], index))
    if len(ranked) <= shown:
        return ranked, [("All victims, from most to least leaked" if len(ranked) > 1 else "The victim", len(ranked))]
    third = shown // 3
    middle = (len(ranked) - third) // 2
    chosen = [*ranked[:third], *ranked[middle : middle + third], *ranked[-third:]]
    return chosen, [("Leak most", third), ("Typical", third), ("Leak least", third)]


def _gallery(folder: Path, cut: str, records: list[Record], pictures: bool) -> Gallery:
    chosen, groups = choose(records)
    files: dict[str, dict[str, Tensor]] = {}
    missing = []
    for record in records if pictures else []:
        path = pictures_path(folder, record.key)
        if path.exists():
            files[record.key] = load_tensors(path)[0]
        else:
            missing.append(record.label)
    first = next((record for record in records if record.key in files), records[0])
    rows = _rows(first)
    by_index = {victim.index: victim for victim in first.victims}
    columns = [Column(i, by_index[i].owner, by_index[i].label) for i in chosen]
    images = files.get(first.key, {})
    private = [
        Picture(_source(images, "private", rows[column.index]), f"Victim {column.index}: private image")
        for column in columns
    ]
    blocks = [_block(record, files.get(record.key, {}), chosen) for record in records]
    floors = [
        Strip(name, _pictures(name, first.floors[key], images, f"floor {key}", rows, chosen))
        for key, name in FLOORS.items()
        if key in first.floors
    ]
    if floors:
        blocks.append(Block("For comparison: what needs no smashed data", floors))
    return Gallery(cut, columns, groups, Strip("private image", private), blocks, missing, _cell_px(first.dataset))


def _block(record: Record, images: Mapping[str, Tensor], chosen: Sequence[int]) -> Block:
    strips = [_strip(attack, record, images, chosen) for attack in record.attacks]
    return Block("No defense" if record.defense == "none" else record.defense, strips)


def _strip(attack: AttackOutcome, record: Record, images: Mapping[str, Tensor], chosen: Sequence[int]) -> Strip:
    if attack.leakage is None:
        return Strip(attack.label, [], attack.reason or "refused")
    name, key = f"{attack.label}, {record.defense}", f"attack {attack.label}"
    return Strip(attack.label, _pictures(name, attack.leakage, images, key, _rows(record), chosen))


def _pictures(
    name: str, leakage: Leakage, images: Mapping[str, Tensor], key: str, rows: Mapping[int, int], chosen: Sequence[int]
) -> list[Picture]:
    figures = leakage.per_victim
    pictures = []
    for index in chosen:
        row = rows[index]
        ssim, psnr, read = figures["ssim"][row], figures["psnr_db"][row], figures["identification"][row] > 0.5
        spoken = f"Victim {index}, {name}: SSIM {ssim:.2f}, PSNR {psnr:.1f} dB, label {'read' if read else 'not read'}"
        pictures.append(Picture(_source(images, key, row), spoken, ssim, psnr, read))
    return pictures


def _source(images: Mapping[str, Tensor], key: str, row: int) -> str | None:
    return data_uri(images[key][row]) if key in images else None


def _cell_px(dataset: Mapping[str, Any]) -> int:
    shape = dataset.get("input_shape", [CELL_SIDE])
    side = CELL_SIDE if len(shape) == 2 else max(shape[-2:])
    return int(side) * max(1, CELL_SIDE // int(side)) if side <= CELL_SIDE else CELL_SIDE


def _rows(record: Record) -> dict[int, int]:
    """Victim → its row in the record's lists and pictures; the order differs from trial to trial."""
    return {victim.index: row for row, victim in enumerate(record.victims)}
