from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lora_da.losses import QuestionAnswering


def test_both_ends_and_positions_outside() -> None:
    start, end = torch.randn(3, 5), torch.randn(3, 5)
    batch = {"start_positions": torch.tensor([1, 4, 5]), "end_positions": torch.tensor([[2], [9], [0]])}
    first, last = start.log_softmax(-1), end.log_softmax(-1)
    wanted = torch.stack([-first[0, 1] - last[0, 2], -first[1, 4], -last[2, 0]])  # 5 and 9 are outside
    output = SimpleNamespace(start_logits=start, end_logits=end)
    torch.testing.assert_close(QuestionAnswering()(output, batch), wanted)
    mean = (-(first[0, 1] + first[1, 4]) / 2 - (last[0, 2] + last[2, 0]) / 2) / 2
    torch.testing.assert_close(QuestionAnswering().mean(output, batch), mean)


def test_what_is_missing_is_named() -> None:
    output = SimpleNamespace(start_logits=torch.zeros(1, 2), end_logits=torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"no end_positions; its keys are \['start_positions'\]"):
        QuestionAnswering()(output, {"start_positions": torch.tensor([0])})
    with pytest.raises(ValueError, match="no start_logits: where it chooses answers in another way, give example_loss"):
        QuestionAnswering()(SimpleNamespace(logits=torch.zeros(1, 2)), {"start_positions": torch.tensor([0])})
