"""Attacks as programs: ``PYTHONPATH=tests python tests/attacks/test_NAME.py --rounds 1000``; pytest makes a few rounds.

An attack is a function of the round's number, which decides everything random in it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable


def make_rounds(attack: Callable[[int], object]) -> None:
    """Make as many rounds as the command line says; the first that succeeds ends the program with its number."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="The number of the first round.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    for number in range(options.first, options.first + options.rounds):
        try:
            attack(number)
        except BaseException:
            print(f"round {number} (--first {number} --rounds 1 makes it again):")
            raise
    print(f"{options.rounds} rounds in {time.perf_counter() - started:.0f} s: none succeeded")
