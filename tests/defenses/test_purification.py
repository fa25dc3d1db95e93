"""Prediction purification: what passes its narrow code."""

from __future__ import annotations

import torch

from defenses.on_outputs import make_output_defense


def test_a_code_narrower_than_the_classes_keeps_labels_and_moves_scores() -> None:
    generator = torch.Generator().manual_seed(3)
    classes = torch.arange(1000) % 10
    scores = torch.softmax(6 * torch.eye(10)[classes] + torch.randn(1000, 10, generator=generator), 1)
    inputs = torch.rand(1000, 1, 6, 6, generator=generator)
    purifier = make_output_defense("purification", {"code": 4, "epochs": 40, "learning_rate": 1e-2})
    purifier.fit(inputs, scores, generator)
    purified = purifier.protect(scores, generator)
    assert (purified.argmax(1) == scores.argmax(1)).double().mean() > 0.99
    assert (purified - scores).abs().sum(1).mean() > 0.02
    alone = purifier.protect(scores[:1], generator)
    torch.testing.assert_close(alone, purified[:1])  # an answer does not depend on who else asks
