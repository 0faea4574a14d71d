from __future__ import annotations

from torch import nn

from lora_da.statistics.hooks.forward_method import replace_forward


def test_a_module_gets_its_own_method_back() -> None:
    plain, dispatched = nn.Identity(), nn.Identity()
    own = dispatched.__dict__["forward"] = lambda x: x + 1  # as accelerate's hooks replace it
    for module, wanted in ((plain, 1), (dispatched, 2)):
        try:
            with replace_forward(module, lambda x: -x):
                assert module(1) == -1
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert module(1) == wanted
    assert "forward" not in vars(plain)
    assert dispatched.forward is own
