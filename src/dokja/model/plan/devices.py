"""Devices: what their makers say of them.

| device | bf16 FLOP/s, dense      | memory          | NVLink, each direction | network of a device, each direction |
|--------|-------------------------|-----------------|------------------------|-------------------------------------|
| a100   | 312 T                   | 80 GB, 2.04 TB/s| 300 GB/s               | 25 GB/s (HDR, 200 Gb/s)             |
| h100   | 989.5 T                 | 80 GB, 3.35 TB/s| 450 GB/s               | 50 GB/s (NDR, 400 Gb/s)             |
| h200   | 989.5 T                 | 141 GB, 4.8 TB/s| 450 GB/s               | 50 GB/s                             |
| b200   | 2,250 T                 | 180 GB, 7.7 TB/s| 900 GB/s               | 50 GB/s                             |

NVIDIA's data sheets: A100 80GB SXM; H100 SXM and H200 SXM (1,979 T "with sparsity", which is twice the dense rate);
HGX B200 (eight together: 36 P with sparsity, 1.4 TB at 62 TB/s). NVLink is sold as the sum of both directions (600,
900, 900, 1,800 GB/s). The network is what the DGX of each generation has: one adapter for every GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from dokja.errors import ConfigError

USABLE = 0.9
"""Share of a device's memory that a plan may fill: contexts, communication buffers and fragments take the rest."""


@dataclass(frozen=True)
class Device:
    """Rates in FLOP/s and bytes/s (links: each direction), sizes in bytes; `node` devices are joined by `link`, more by
    `network`. `mfu` is the share of `flops` that matrix products reach in training."""

    name: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    network: float
    node: int = 8
    mfu: float = 0.4
    value_bytes: int = 2
    """of an activation"""

    @property
    def usable(self) -> float:
        """Bytes that a plan may fill."""
        return USABLE * self.memory


# mfu 0.4: Llama 3 405B reached 38 to 43 % on 8,192 to 16,384 H100s (arXiv 2407.21783, table 4).
DEVICES = {
    device.name: device
    for device in (
        Device("a100", 312e12, 2.039e12, 80e9, 300e9, 25e9),
        Device("h100", 989.5e12, 3.35e12, 80e9, 450e9, 50e9),
        Device("h200", 989.5e12, 4.8e12, 141e9, 450e9, 50e9),
        Device("b200", 2250e12, 7.7e12, 180e9, 900e9, 50e9),
    )
}


def find_device(name: str) -> Device:
    """A device of the table. ConfigError for a name that is not in it."""
    if name not in DEVICES:
        raise ConfigError(
            f"There is no device {name!r} in the table. Name one of {', '.join(DEVICES)}, or cpu, and give other "
            "numbers with --flops, --bandwidth, --memory and --link."
        )
    return DEVICES[name]
