"""A network cut in two (head | tail) or three (head | body | tail)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from split_models.tensor_spec import TensorSpec


class SplitError(ValueError):
    """A network cannot be cut as asked; the message names the cuts that it has."""


@dataclass(frozen=True)
class SplitModel:
    """The parts of one network; they share its parameters, nothing is copied."""

    parts: tuple[nn.Sequential, ...]
    cuts: tuple[str, ...]

    @property
    def head(self) -> nn.Sequential:
        """The data owner's first layers."""
        return self.parts[0]

    @property
    def body(self) -> nn.Sequential:
        """The server's middle layers of a U-shaped split.

        Raises:
            SplitError: the network was cut once only.
        """
        if len(self.parts) != 3:
            raise SplitError("a network that was cut once has no body; give two cuts for a U-shaped split")
        return self.parts[1]

    @property
    def tail(self) -> nn.Sequential:
        """The layers after the last cut: the server's, or the owner's own in a U-shaped split."""
        return self.parts[-1]

    def __call__(self, inputs: Tensor) -> Tensor:
        """The whole network's output, computed part by part: (N, *input) → (N, classes)."""
        for part in self.parts:
            inputs = part(inputs)
        return inputs


def layers(model: nn.Module) -> OrderedDict[str, nn.Module]:
    """The layers of a sequential network in order, by dotted name; nested Sequentials are opened.

    Raises:
        SplitError: the network is no plain `nn.Sequential`, so the order of its layers is not known.
    """
    if type(model).forward is not nn.Sequential.forward:
        raise SplitError(
            f"expected an nn.Sequential, whose layers run in order, got {type(model).__name__}; "
            "wrap its layers in one to cut it"
        )
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in model._modules.items():  # named_children() leaves out a layer that is used a second time
        assert child is not None
        if type(child).forward is nn.Sequential.forward and len(child):  # type: ignore[arg-type]
            found.update((f"{name}.{inner}", layer) for inner, layer in layers(child).items())
        else:
            found[name] = child
    return found


def cut_names(model: nn.Module) -> list[str]:
    """Where a sequential network can be cut: after each of its layers, from shallow to deep."""
    return list(layers(model))


def split(model: nn.Module, at: str | Sequence[str]) -> SplitModel:
    """Cut a sequential network after the named layer, or after two of them for a U-shape.

    Raises:
        SplitError: no such layer, more than two cuts, or the second cut is not behind the first.
    """
    cuts = (at,) if isinstance(at, str) else tuple(at)
    named = layers(model)
    order = list(named)
    for cut in cuts:
        if cut not in named:
            raise SplitError(f"no layer {cut!r} to cut after; this network has: {', '.join(order)}")
    if len(cuts) not in (1, 2):
        raise SplitError(f"expected one cut, or two for a U-shaped split, got {len(cuts)}")
    ends = [order.index(cut) + 1 for cut in cuts]
    if len(ends) == 2 and ends[0] >= ends[1]:
        raise SplitError(
            f"expected the cuts from shallow to deep, got {cuts[0]!r} before {cuts[1]!r}; "
            f"the order is: {', '.join(order)}"
        )
    bounds = [0, *ends, len(order)]
    items = list(named.items())
    parts = tuple(_sequential(items[a:b], model.training) for a, b in pairwise(bounds))
    return SplitModel(parts, cuts)


def output_spec(part: nn.Module, sample: TensorSpec) -> TensorSpec:
    """What a network part makes of one sample: runs it once on zeros, in eval mode, without gradients."""
    modes = [(module, module.training) for module in part.modules()]
    part.eval()
    with torch.no_grad():
        outputs = part(torch.zeros(1, *sample.shape, dtype=sample.torch_dtype))
    for module, training in modes:  # one by one: train() would wake layers that were frozen in eval mode
        module.training = training
    return TensorSpec.of(outputs)


def _sequential(items: list[tuple[str, nn.Module]], training: bool) -> nn.Sequential:
    # A module name must not hold a dot; the dotted name stays readable with another separator.
    part = nn.Sequential(OrderedDict((name.replace(".", "/"), layer) for name, layer in items))
    part.training = training  # of the container alone: the layers are shared and keep their own mode
    return part
