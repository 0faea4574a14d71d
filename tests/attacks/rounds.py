"""How an attack is run: round by round, each from its number alone, as a program or a few rounds by pytest.

An attack is a function of a round's number that returns what did not hold, in words; nothing where all held. Its file
is a program: ``PYTHONPATH=tests python -m attacks.readers --rounds 30000``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

Attack = Callable[[int], list[str]]


def run(attack: Attack, first: int, rounds: int) -> list[str]:
    """Carry out rounds in a process of their own, and once more from the next one where it dies."""
    context = multiprocessing.get_context("spawn")
    faults: list[str] = []
    while rounds > 0:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(attack, first, rounds, there))
        process.start()
        there.close()
        done = 0
        try:
            while True:
                faults += here.recv()
                done += 1
        except EOFError:
            process.join()
        if done < rounds:
            faults.append(f"round {first + done}: the process died ({process.exitcode})")
            done += 1
        first, rounds = first + done, rounds - done
    return faults


def _work(attack: Attack, first: int, rounds: int, there: Any) -> None:
    for number in range(first, first + rounds):
        try:
            found = attack(number)
        except Exception as error:
            found = [f"{type(error).__name__}: {error}"]
        there.send([f"round {number}: {fault}" for fault in found])


def main(attack: Attack, rounds: int) -> None:
    """Run an attack as a program; what did not hold is printed, and the exit status is 1."""
    parser = argparse.ArgumentParser(description=attack.__doc__)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--first", type=int, default=0, help="the number of the first round, to repeat one")
    given = parser.parse_args()
    started = time.monotonic()
    faults = run(attack, given.first, given.rounds)
    for fault in faults:
        print(fault[:1000])
    print(f"{given.rounds} rounds, {len(faults)} faults, {time.monotonic() - started:.0f} s")
    raise SystemExit(bool(faults))
