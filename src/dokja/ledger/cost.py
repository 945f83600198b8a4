"""What a stage cost, in the units of the ledger."""

import resource
import sys
from pathlib import Path


def flops_6nd(n_active: int, tokens: int) -> int:
    """Training FLOPs of the matrices: 6 · N · D (2 forward, 4 backward per parameter and token; Kaplan et al. 2020).

    `n_active` counts parameters that multiply each token: the output head is in, the embedding's lookup is not.
    Attention scores come on top; `model/` counts them, because they depend on windows.
    """
    return 6 * n_active * tokens


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far (VmHWM; elsewhere what getrusage says)."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
