"""The published figures, beside which ours are put (S1: C. Tao and M. Bandai)."""

from typing import Final

RATES_KPPS: Final = {"gateway-only": 15.0, "offloaded": 19.5}
"""Highest rate without packet loss (Raspberry Pi 5, hping3 SYNs)."""
CPU_PERCENT: Final = {("gateway-only", 15.0): 98, ("offloaded", 15.0): 78} | {
    ("gateway-only", 19.5): 100,
    ("offloaded", 19.5): 97,
}
"""Average CPU of the gateway at (mode, kpps); gateway-only loses packets at 19.5."""
MEMORY_PERCENT: Final = {"gateway-only": 26, "offloaded": 20}
"""Memory of the gateway at both rates."""
ACCURACY: Final = {
    "all 60": {"accuracy": 0.993, "precision": 0.993, "recall": 0.993, "f1": 0.993},
    "top 20": {"accuracy": 0.992, "precision": 0.992, "recall": 0.992, "f1": 0.992},
}
"""Of the forest, on a random split of packets of CICIoT2023."""
PACKETS: Final = {"benign": 417_389, "malicious": 559_072}
"""Of the data that it was fitted and tested on."""
