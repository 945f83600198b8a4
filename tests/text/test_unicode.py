import pytest

from dokja.errors import DataError
from dokja.text.unicode import nfc, refuse_surrogates, script_share


def test_jamo_and_syllables_become_equal():
    assert nfc("\u1112\u1161\u11ab\u1100\u1173\u11af") == "한글"


def test_a_lone_surrogate_is_named_with_its_place():
    with pytest.raises(DataError, match=r"U\+D800 at character 2"):
        refuse_surrogates("가나\ud800")
    refuse_surrogates("가나\x00\U0010ffff")


def test_scripts_are_counted_among_letters_only():
    assert script_share("한글 abcd 漢字 1234!") == {"hangul": 0.25, "han": 0.25, "latin": 0.5, "other": 0.0}
    assert script_share("Привет")["other"] == 1.0
    assert set(script_share("123 !?").values()) == {0.0}
