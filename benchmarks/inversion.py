"""Time the white box beside the published one-image-at-a-time loop; print ratios and write a record."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from attacks import make_attack
from attacks.attack import granted
from attacks.knowledge import Auxiliary, Knowledge, Observation
from attacks.on_activations.regularized_inversion import RegularizedInversion
from experiments.metrics.image_similarity import similarity
from experiments.provenance import provenance
from parties.datasets import load
from split_models.checkpoints import Identity, load_model, save_model, write_atomically
from split_models.randomness import generator_for, layers_from
from split_models.split_model import output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.training import accuracy, train_classifier
from split_models.zoo import build

RECORD = Path("experiments/reproductions/inversion/inversion.json")
TUNING_IMAGES = 5
MEMORY_VICTIMS, MEMORY_BATCH = (64, 512, 4096), 32


@dataclass(frozen=True)
class Published:
    """One line of the published settings (He et al. 2019, released code)."""

    network: str
    data: str
    cut: str
    smoothing: float  # λ of the mean squared variation, in units of their target's activations
    steps: int = 5000
    learning_rate: float = 1e-2
    ours: Mapping[str, Any] = field(default_factory=dict)  # what differs from the white box's defaults


DEEP = {"iterations": 200, "weights": (0.3, 1.0, 3.0), "tuning_images": 3}
"""Behind several convolutions a step is dear, and what two hundred steps do not reach a strong prior makes up for."""

LINES = {
    line.cut: line
    for line in (
        Published("lenet", "mnist", "conv1", 0.0),
        Published("lenet", "mnist", "relu2", 1.0),
        Published("sixconv", "cifar10", "conv11", 0.0),
        Published("sixconv", "cifar10", "relu22", 10.0, ours=DEEP),
        Published("sixconv", "cifar10", "relu32", 1000.0, ours=DEEP),
    )
}


@dataclass(frozen=True)
class Target:
    """A trained network with images it has not seen."""

    network: nn.Module
    spec: TensorSpec
    unseen: Tensor
    accuracy: float


def trained(line: Published, data_dir: Path | None, images: int, epochs: int, kept: Path | None) -> Target:
    """A target trained on the first `images` of its data set, or found in the folder `kept` from an earlier call."""
    network, data = line.network, line.data
    raw = load(data, data_dir)
    generator = generator_for(0, "benchmark", network)
    with layers_from(generator):
        model = build(network, raw.input_spec, len(raw.classes))
    assert raw.official_train is not None
    test = slice(raw.official_train, raw.official_train + 1000)
    pixels, unseen = (torch.from_numpy(raw.images[part]).float() / 255 for part in (slice(images), test))
    labels = torch.from_numpy(raw.labels)
    path = kept / f"{network}-{images}-{epochs}.safetensors" if kept else None
    if path and path.exists():
        model, _ = load_model(path, network)
    else:
        # In bfloat16 six convolutions take half the time; its cache would keep the weights of the first step.
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            train_classifier(
                model,
                pixels,
                labels[:images],
                epochs=epochs,
                batch_size=32,
                learning_rate=1e-3,
                generator=generator,
            )
        if path:
            save_model(path, model, Identity(network, raw.input_spec, len(raw.classes), digest=""))
    model.requires_grad_(False)
    return Target(model, raw.input_spec, unseen, accuracy(model, unseen, labels[test]))


def published_loop(head: nn.Module, activation: Tensor, spec: TensorSpec, line: Published, steps: int) -> Tensor:
    """One image (1, C, H, W) as published: Adam with AMSGrad and eps 1e-3 in normalised space, clipped at the end."""
    assert isinstance(head, nn.Sequential)
    normalize, rest = head[0], head[1:]
    image = torch.zeros(1, *spec.shape, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=line.learning_rate, eps=1e-3, amsgrad=True)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (rest(image) - activation).square().mean()
        if line.smoothing:
            down = (image[..., 1:, :] - image[..., :-1, :]).square().mean()
            right = (image[..., 1:] - image[..., :-1]).square().mean()
            loss = loss + line.smoothing * (down + right)
        loss.backward()
        optimizer.step()
    return (image.detach() * normalize.std + normalize.mean).clamp(0, 1)  # type: ignore[operator]


def compare(target: Target, line: Published, victims: int, batch: int, steps: int) -> dict[str, Any]:
    """Victim after victim by the published loop, with one batch of ours in between each time."""
    head = split(target.network, line.cut).head
    private, own = target.unseen[:batch], target.unseen[batch:][:TUNING_IMAGES]
    with torch.no_grad():
        seen = head(private)
    unlabelled = torch.zeros(len(own), dtype=torch.int64)
    knowledge = Knowledge(
        target.spec, output_spec(head, target.spec), head, auxiliary=Auxiliary(own, unlabelled, own, unlabelled)
    )
    attack = make_attack("regularized_inversion", {"batch": batch, **line.ours})
    begun = time.perf_counter()
    attack.prepare(granted(knowledge, RegularizedInversion), generator_for(0, "benchmark"))
    tuning_s = time.perf_counter() - begun
    theirs_s, ours_s, images = [], [], []
    for victim in range(victims):
        begun = time.perf_counter()
        images.append(published_loop(head, seen[victim : victim + 1], target.spec, line, steps))
        between = time.perf_counter()
        found = attack.reconstruct(Observation(seen))
        ours_s.append((time.perf_counter() - between) / batch)
        theirs_s.append(between - begun)
    theirs_db = similarity(private[:victims], torch.cat(images)).psnr_db
    ours_db = similarity(private, found).psnr_db
    theirs, ours = statistics.median(theirs_s), statistics.median(ours_s)
    return {
        "network": line.network,
        "cut": line.cut,
        "method": attack.notes["method"],
        "ratio_per_victim": theirs / ours,
        "ratio_with_tuning": theirs / (ours + tuning_s / batch),
        "published_psnr_db": float(theirs_db.mean()),
        "our_psnr_db_same_victims": float(ours_db[:victims].mean()),
        "our_psnr_db": float(ours_db.mean()),
        "our_steps": attack.notes["steps"],
        "our_settings": attack.settings.model_dump(mode="json"),
        "seconds_for_ten_victims": _seconds_for_ten(knowledge, seen, line),
        "target_accuracy": target.accuracy,
    }


def _seconds_for_ten(knowledge: Knowledge, seen: Tensor, line: Published) -> float:
    """From nothing to ten images, choosing the method and its weight included."""
    begun = time.perf_counter()
    attack = make_attack("regularized_inversion", dict(line.ours))
    attack.prepare(granted(knowledge, RegularizedInversion), generator_for(0, "benchmark"))
    attack.reconstruct(Observation(seen[:10]))
    return time.perf_counter() - begun


def peak_memory_mb(victims: int) -> float:
    """The most memory that a process holds which inverts so many activations behind an untrained LeNet's relu2."""
    spec = TensorSpec((1, 28, 28), low=0.0, high=1.0)
    with layers_from(generator_for(0, "benchmark")):
        head = split(build("lenet", spec, 10), "relu2").head.requires_grad_(False)
    activations = torch.rand(victims, *output_spec(head, spec).shape, generator=generator_for(0, "seen"))
    knowledge = Knowledge(spec, output_spec(head, spec), head)
    attack = make_attack("regularized_inversion", {"batch": MEMORY_BATCH, "iterations": 5})
    attack.prepare(granted(knowledge, RegularizedInversion), generator_for(0, "benchmark"))
    attack.reconstruct(Observation(activations))
    # Not getrusage: a process inherits the peak of the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return float(peak.split()[1]) / 1024


def memory_by_victims() -> dict[str, float]:
    """Peak memory in MB by victims, each in a process of its own, so that none sees another's peak."""
    command = [sys.executable, "-m", "benchmarks.inversion", "--peak-memory"]
    runs = {n: subprocess.run([*command, str(n)], check=True, capture_output=True, text=True) for n in MEMORY_VICTIMS}
    return {str(victims): float(run.stdout) for victims, run in runs.items()}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inversion", description=__doc__)
    parser.add_argument("--cuts", nargs="+", choices=LINES, default=list(LINES), help="published lines to measure")
    parser.add_argument("--victims", type=int, default=2, help="images for the published loop")
    parser.add_argument("--batch", type=int, default=32, help="images that ours inverts at once")
    parser.add_argument("--steps", type=int, default=5000, help="of the published loop; 5000 as published")
    parser.add_argument("--train", type=int, default=10_000, help="images that targets are trained on")
    parser.add_argument("--epochs", type=int, default=4, help="of training targets")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets; default UNSMASH_DATA")
    parser.add_argument("--record", type=Path, default=RECORD, help="where the record goes")
    parser.add_argument("--targets", type=Path, help="folder that keeps trained targets for later calls")
    parser.add_argument("--peak-memory", type=int, help="print the peak memory in MB for so many victims, no more")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak_memory:
        print(peak_memory_mb(arguments.peak_memory))
        return
    console, targets = Console(width=130), {}
    table = Table("cut", "method", "times faster", "with tuning", "PSNR published", "ours", "ours, all victims")
    for cut in arguments.cuts:
        line = LINES[cut]
        if line.network not in targets:
            console.print(f"training {line.network} on {line.data}")
            targets[line.network] = trained(
                line, arguments.data_dir, arguments.train, arguments.epochs, arguments.targets
            )
        console.print(f"measuring {cut}")
        found = compare(targets[line.network], line, arguments.victims, arguments.batch, arguments.steps)
        _keep(arguments, found)
        figures = [value for value in found.values() if isinstance(value, float)][:5]
        table.add_row(cut, found["method"], *(f"{figure:.1f}" for figure in figures))
    console.print(table)
    memory = memory_by_victims()
    console.print(f"peak memory in MB by victims, {MEMORY_BATCH} at a time: {memory}")
    _keep(arguments, {"cut": "relu2, untrained", "peak_memory_mb": memory})
    console.print(f"record: {arguments.record}")


def _keep(arguments: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write what was measured at a cut into the record at once; other cuts of an earlier call stay as they are."""
    path, left_out = arguments.record, ("record", "data_dir", "targets", "peak_memory", "cuts")
    settings = {name: value for name, value in vars(arguments).items() if name not in left_out}
    measured = {**found, **settings, "provenance": provenance()}
    earlier = json.loads(path.read_bytes())["results"] if path.exists() else []
    results = [one for one in earlier if one["cut"] != found["cut"]] + [measured]
    record = {"command": "python -m benchmarks.inversion", "results": results}
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
