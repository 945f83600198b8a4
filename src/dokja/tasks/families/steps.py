"""Small steps that several families write the same way, so that a model learns them once."""

from __future__ import annotations


def two_step_add(left: str, a: int, b: int) -> tuple[str, int]:
    """Two-digit addition as tens, then ones: 47+36 -> `47+30=77+6=83`. `left` is how `a` is written."""
    tens, ones = b // 10 * 10, b % 10
    return f"{left}+{tens:02d}={a + tens:02d}+{ones}={a + b:02d}", a + b


def two_step_sub(a: int, b: int) -> tuple[str, int]:
    """Two-digit subtraction as tens, then ones: 27-13 -> `27-10=17-3=14`."""
    tens, ones = b // 10 * 10, b % 10
    return f"{a:02d}-{tens:02d}={a - tens:02d}-{ones}={a - b:02d}", a - b
