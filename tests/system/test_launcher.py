from __future__ import annotations

import pytest

from lora_da.system.launcher import count_processes, refuse_job, say_process


@pytest.mark.parametrize(
    ("size", "rank", "count", "said"), [(None, None, 1, ""), ("1", "0", 1, ""), ("4", "2", 4, " (process 2)")]
)
def test_what_a_launcher_says(
    monkeypatch: pytest.MonkeyPatch, size: str | None, rank: str | None, count: int, said: str
) -> None:
    for name, value in (("WORLD_SIZE", size), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert count_processes() == count
    assert say_process() == said
    if count == 1:
        refuse_job("it")
    else:
        with pytest.raises(ValueError, match=r"it is not made for a job: each of the 4 processes"):
            refuse_job("it")


@pytest.mark.parametrize("size", ["", "two", "0", "-1", "1.5"])
def test_no_number_is_told(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match="is no number of processes"):
        count_processes()
