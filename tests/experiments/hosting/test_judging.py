"""What a defense on outputs costs an honest customer."""

from __future__ import annotations

import pytest
import torch

from defenses.on_outputs import make_output_defense
from experiments.hosting.judging import distortion_of, idle_defense, utility_of
from experiments.hosting.record import HostedUtility

OWN = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])


def test_distortion_is_total_variation_of_scores_changed_labels_or_differences_of_values() -> None:
    assert distortion_of(OWN, torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.5, 0.4]])) == pytest.approx(0.05)
    assert distortion_of(OWN, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])) == pytest.approx((0.8 + 0.6) / 2)
    assert distortion_of(OWN, torch.tensor([0, 2])) == 0.5
    assert distortion_of(OWN[:, :1], torch.tensor([0.9, -0.1])) == pytest.approx(0.2)


@pytest.mark.parametrize("k, idle", [(3, True), (2, False)])
def test_a_defense_is_idle_where_answers_stay_not_where_their_worth_stays(k: int, idle: bool) -> None:
    truth = torch.tensor([0, 1])
    told = make_output_defense("top_k", {"k": k}).protect(OWN, torch.Generator())
    plain, served = utility_of(OWN, truth), utility_of(told, truth)
    assert plain == served
    utility = HostedUtility(plain=plain, served=served, distortion=distortion_of(OWN, told))
    assert bool(idle_defense("top_k", utility)) is idle
