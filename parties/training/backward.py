"""A backward pass in two parts: the gradient for the other party first, the layers' own gradients afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

Afterwards = Callable[[], None]


def input_gradients(
    output: Tensor, inputs: Sequence[Tensor], gradient: Tensor | None = None
) -> tuple[tuple[Tensor, ...], Afterwards]:
    """The gradients that a peer waits for, and what gathers those of the weights into `.grad`, to be called once.

    Both together compute what `output.backward(gradient)` does, to the bit: where a layer has two gradients they are
    two computations anyway, and only their order changes. Where one weight is used at several places everything is
    computed at once.

    Args:
        output: of the layers, of any shape if `gradient` has it too, else one number.
        inputs: leaves that `output` was computed from, which require gradients.

    Returns:
        Gradients of the shapes of `inputs`, and the rest of the work.
    """
    places = _places_of_weights(output, inputs)
    if places is None:
        torch.autograd.backward(output, gradient)
        gradients = tuple([_of(leaf) for leaf in inputs])
        for leaf in inputs:
            leaf.grad = None
        return gradients, _nothing
    passing: dict[Node, tuple[Tensor | None, ...]] = {}
    hooks = [node.register_prehook(_keeper(passing, node)) for node in places]
    try:
        gradients = torch.autograd.grad(output, inputs, gradient, retain_graph=True)
    finally:
        for hook in hooks:
            hook.remove()

    def gather() -> None:
        for node, came in passing.items():  # in the order of a backward pass
            edges = [(GradientEdge(node, index), part) for index, part in enumerate(came) if part is not None]
            outputs, parts = zip(*edges, strict=True)
            for weight, found in zip(
                places[node], torch.autograd.grad(outputs, places[node], parts, allow_unused=True), strict=True
            ):
                if found is not None:
                    # Not in place: what was found may be the very tensor that goes to the peer.
                    weight.grad = found if weight.grad is None else weight.grad + found
        passing.clear()

    return gradients, gather


def _nothing() -> None:
    """All was done at once."""


def _of(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def _keeper(passing: dict[Node, tuple[Tensor | None, ...]], node: Node) -> Callable[[tuple[Tensor | None, ...]], None]:
    def keep(came: tuple[Tensor | None, ...]) -> None:
        passing[node] = came

    return keep


def _places_of_weights(output: Tensor, inputs: Sequence[Tensor]) -> dict[Node, tuple[Tensor, ...]] | None:
    """The operations between inputs and output that weights enter, with those weights; None if one enters twice."""
    ends = {get_gradient_edge(leaf).node for leaf in inputs}
    order = list(_from_inputs_on(get_gradient_edge(output).node))
    on_the_way: set[Node] = set(ends)
    places: dict[Node, tuple[Tensor, ...]] = {}
    seen: set[Node] = set()
    for node in order:  # what is nearer to the leaves comes first
        before = [following for following, _ in node.next_functions if following is not None]
        if not any(following in on_the_way for following in before):
            continue
        on_the_way.add(node)
        weights: list[Tensor] = []
        for following in before:
            if following in on_the_way:
                continue
            for deeper in _from_inputs_on(following):
                if deeper in seen:
                    return None
                seen.add(deeper)
                if hasattr(deeper, "variable"):
                    weights.append(deeper.variable)
        if weights:
            places[node] = tuple(weights)
    return places


def _from_inputs_on(root: Node) -> Iterator[Node]:
    """All operations that `root` depends on and itself, each after those that it depends on."""
    seen: set[Node] = {root}
    stack: list[tuple[Node, Iterator[Any]]] = [(root, iter(root.next_functions))]
    while stack:
        node, following = stack[-1]
        for deeper, _ in following:
            if deeper is not None and deeper not in seen:
                seen.add(deeper)
                stack.append((deeper, iter(deeper.next_functions)))
                break
        else:
            stack.pop()
            yield node
