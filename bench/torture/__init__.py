"""Vitrine under hostile input, faults and load. Each scenario tells what it tried and what did not hold.

    python -m bench.torture NAME [--count N] [--seed S]
    make torture

What a scenario tries follows from its seed; when the blows fall, as processes do, depends on the machine. The bars and
the figures stand in docs/reliability.md; `tests/test_torture.py` runs a short part of each.
"""
