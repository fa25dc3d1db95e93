"""The training loop that targets, evaluators and attackers' decoders share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of a random order of `count` samples, `size` at a time.

    A lone sample at the end joins the batch before it: batch normalisation has no variance of one.
    """
    yield from torch.randperm(count, generator=generator).split(_sizes(count, size))


def _sizes(count: int, size: int) -> list[int]:
    whole, rest = divmod(count, size)
    sizes = [size] * whole + ([rest] if rest else [])
    return [*sizes[:-2], size + 1] if rest == 1 and whole else sizes


def minimise(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    after_epoch: Callable[[int], None] = lambda epoch: None,
    before_step: Callable[[], None] = lambda: None,
) -> None:
    """Adam on `loss_of(indices)` with the learning rate annealed to nothing along a cosine.

    `loss_of` gets the indices of a mini-batch out of `count` samples and returns a scalar; `before_step` is called
    when its gradients are there and not yet used.
    """
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    steps = max(1, epochs * len(_sizes(count, batch_size)))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(epochs):
        for indices in batches(count, batch_size, generator):
            optimizer.zero_grad(set_to_none=True)
            loss_of(indices).backward()
            before_step()
            optimizer.step()
            schedule.step()
        after_epoch(epoch)


def minimise_to_best(
    network: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    judged: Callable[[], Tensor],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    report: Callable[[float], None] = lambda fraction: None,
) -> float:
    """`minimise` a network and keep the epoch after which `judged`, a loss on validation samples, was least.

    The network is left frozen, in `eval()`; returns that least loss. `report` gets the fraction done after each epoch.
    """
    best = (float("inf"), copy.deepcopy(network.state_dict()))

    def keep_best(epoch: int) -> None:
        nonlocal best
        with torch.no_grad():
            loss = float(judged())
        if loss < best[0]:
            best = (loss, copy.deepcopy(network.state_dict()))
        report((epoch + 1) / epochs)

    minimise(
        network.parameters(),
        loss_of,
        count,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        generator=generator,
        after_epoch=keep_best,
    )
    network.load_state_dict(best[1])
    network.eval().requires_grad_(False)
    return best[0]


def train_classifier(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    after_epoch: Callable[[int], None] = lambda epoch: None,
    before_step: Callable[[], None] = lambda: None,
    loss_of: Callable[[Tensor, Tensor], Tensor] | None = None,
    together_with: Iterable[nn.Module] = (),
) -> None:
    """Train a classifier with cross-entropy, or with `loss_of(images, labels)`, and leave it in eval mode.

    The parameters of the modules `together_with` are trained in the same optimiser.
    """
    model.train()
    loss = loss_of or (lambda batch, wanted: cross_entropy(model(batch), wanted))
    minimise(
        [parameter for module in (model, *together_with) for parameter in module.parameters()],
        lambda rows: loss(images[rows], labels[rows]),
        len(labels),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        generator=generator,
        after_epoch=after_epoch,
        before_step=before_step,
    )
    model.eval()


def predict(model: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 512) -> Tensor:
    """The most likely class of each image: (N, C, H, W) → (N,)."""
    with torch.no_grad():
        return torch.cat([model(batch).argmax(1) for batch in images.split(batch_size)])


def accuracy(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """The fraction of images that a classifier gets right."""
    return float((predict(model, images) == labels).float().mean())
