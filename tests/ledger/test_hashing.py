"""Equal values have equal hashes however they are spelt; different ones do not."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokja.ledger.cost import flops_6nd, peak_memory_bytes
from dokja.ledger.hashing import canonical_json, sha256_file, sha256_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(data)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert sha256_json(value) == sha256_json(dict(reversed(value.items())))


def test_hangul_is_hashed_as_itself() -> None:
    assert canonical_json({"b": 1, "a": "독자"}) == '{"a":"독자","b":1}'
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})


def test_nan_has_no_hash() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256_json({"loss": float("nan")})


def test_six_flops_per_parameter_and_token() -> None:
    assert flops_6nd(1_000_000, 20_000_000) == 120 * 10**12


def test_peak_memory_sees_a_large_allocation() -> None:
    before = peak_memory_bytes()
    block = bytearray(64 * 2**20)
    block[:: 2**12] = b"x" * (len(block) // 2**12)
    assert peak_memory_bytes() > 2**20 and peak_memory_bytes() >= before
