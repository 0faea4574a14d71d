from __future__ import annotations

import pytest

from lora_da.system.launcher import check_job, count_processes, refuse_job, say_process


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


@pytest.mark.parametrize(
    ("size", "rank", "device", "told"),
    [
        (None, None, "cuda:1", None),
        ("2", "1", None, None),
        ("2", "1", "cpu", None),
        ("2", "1", "cuda:1", "the launcher gives each its own"),
        ("2", None, None, "RANK is not: start the processes by torchrun"),
    ],
)
def test_what_a_job_needs(
    monkeypatch: pytest.MonkeyPatch, size: str | None, rank: str | None, device: str | None, told: str | None
) -> None:
    for name, value in (("WORLD_SIZE", size), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    if told is None:
        check_job(device)
    else:
        with pytest.raises(ValueError, match=told):
            check_job(device)
