"""Drills: real traffic in the lab, the real gateway in it, and somebody who means harm.

    python -m tests.campaigns.drills [--layout routed|bridge] [--only NAME] --out drills.json

Each drill plays in a lab of its own and says what was seen, line by line. The exit code is 1 where
something was harmed that must not be: somebody innocent cut off or accused, an ordinary flow lost,
an attacker let go, an order carried out that had to be refused. Needs root; each takes less than
40 s. What cannot be told apart is said, not counted as harm.
"""
