"""Numbers as people read them, in English and Korean at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NONE = "–"


@dataclass(frozen=True, slots=True)
class Both:
    """The same words in both languages, as plain text (never markup)."""

    en: str
    ko: str

    @classmethod
    def same(cls, text: object) -> Both:
        """Text that reads the same in both."""
        return cls(str(text), str(text))


def count(n: float | None) -> Both:
    """12,345,678 -> `12.3 M` and `1,235만`; small numbers are spelled out."""
    if n is None or not math.isfinite(n):
        return Both.same(NONE)
    return Both(_scaled(n, ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e4, " k", 1e3))), _korean(n))


def duration(seconds: float | None) -> Both:
    """760 -> `12 min 40 s` and `12분 40초`."""
    if seconds is None or not math.isfinite(seconds):
        return Both.same(NONE)
    if seconds < 10:
        return Both(f"{seconds:.1f} s", f"{seconds:.1f}초")
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return Both(f"{hours:,} h {m:02d} min", f"{hours:,}시간 {m:02d}분")
    if minutes:
        return Both(f"{minutes} min {s:02d} s", f"{minutes}분 {s:02d}초")
    return Both(f"{s} s", f"{s}초")


def size(n_bytes: float | None) -> Both:
    """Bytes in powers of ten: 1_200_000_000 -> `1.20 GB`."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return Both.same(NONE)
    return Both.same(_scaled(n_bytes, ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB")), " B"))


def power(n: float | None) -> str:
    """3.1 × 10¹³; 0 and None as they are."""
    if n is None or not math.isfinite(n):
        return NONE
    if n == 0:
        return "0"
    exponent = math.floor(math.log10(abs(n)))
    mantissa = f"{n / 10**exponent:.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa} × 10{str(exponent).translate(_SUPERSCRIPT)}"


def percent(share: float | None, digits: int = 1) -> str:
    """0.975 -> `97.5 %`."""
    return NONE if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}\u00a0%"


def percent_tick(share: float) -> str:
    """A share on an axis, with the digits its neighbours need: `0.5 %`, `85 %`."""
    return f"{short(round(100 * share, 6))}\u00a0%"


def interval(low: float, high: float) -> str:
    """95 % interval of a share, in per cent: `[92.1, 99.0]`."""
    return f"[{100 * low:.1f},\u00a0{100 * high:.1f}]"


def points(share: float) -> str:
    """A difference of shares in points, with its sign: `+41.0`, `−0.8`, `0.0`."""
    return signed(100 * share)


def signed(value: float) -> str:
    """A difference with its sign and one digit; nothing is never minus nothing."""
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def short(value: float) -> str:
    """A plain number with as many digits as it needs on an axis or in a table."""
    if not math.isfinite(value):
        return NONE
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return power(value)
    text = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def _scaled(n: float, units: tuple[tuple[float, str] | tuple[float, str, float], ...], rest: str = "") -> str:
    for unit in units:
        floor, sign, by = unit[0], unit[1], unit[-1] if len(unit) == 3 else unit[0]
        if abs(n) >= floor:
            value = n / float(by)
            return (f"{value:.0f}" if value >= 100 else f"{value:.3g}") + sign
    return _plain(n) + rest


def _korean(n: float) -> str:
    for floor, sign in ((1e12, "조"), (1e8, "억"), (1e4, "만")):
        if abs(n) >= floor:
            value = n / floor
            return (f"{value:,.0f}" if value >= 100 else f"{value:.3g}") + sign
    return _plain(n)


def _plain(n: float) -> str:
    return f"{n:,.0f}" if abs(n) >= 100 or float(n).is_integer() else f"{n:,.1f}"
