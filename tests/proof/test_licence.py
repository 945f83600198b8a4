"""Licences of imported models: read from the folder, and never made wider than they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from dokja.errors import ConfigError, DataError
from dokja.proof.licence import KNOWN, UNKNOWN, read_licence, refuse_contradiction, text_for_release

NC12 = "LicenseRef-EXAONE-1.2-NC"
HEADS = {
    "LicenseRef-EXAONE-1.1-NC": "EXAONE AI Model License Agreement 1.1 - NC\n\nThis License Agreement",
    NC12: "EXAONE AI Model License Agreement 1.2 - NC\n\nThis License Agreement",
    "LicenseRef-K-EXAONE": "K-EXAONE AI Model License Agreement\n\nThis License Agreement",
    "Apache-2.0": "              Apache License\n        Version 2.0, January 2004\n",
    "MIT": "MIT License\n\nCopyright (c) 2026 Somebody",
}


@pytest.mark.parametrize("name", HEADS)
def test_a_text_is_recognised_by_its_title(name: str, tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text(HEADS[name])
    assert read_licence(tmp_path).id == name


def test_the_text_outweighs_the_front_matter(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text(HEADS[NC12])
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Model\n")
    assert read_licence(tmp_path).id == NC12


@pytest.mark.parametrize(
    ("front", "name"),
    [
        ("license: apache-2.0", "Apache-2.0"),
        ('license: "mit"', "MIT"),
        ("license: other\nlicense_name: k-exaone", "LicenseRef-K-EXAONE"),
        ("license: other\nlicense_name: exaone", "LicenseRef-EXAONE-1.1-NC"),  # the strictest of that name
        ("license: other\nlicense_name: licenseref-exaone-1.2-nc", NC12),  # as our own cards write it
    ],
)
def test_front_matter_is_read_where_no_text_lies(front: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# Model\n")
    assert read_licence(tmp_path).id == name


@pytest.mark.parametrize(
    ("files", "title"),
    [
        ({}, "unknown: the folder names none"),
        ({"LICENSE": "\nMy Own Terms 3\nmore\n"}, "unknown: My Own Terms 3"),
        ({"README.md": "---\nlicense: gemma\n---\n"}, "unknown: gemma"),
        ({"README.md": "# no front matter\nlicense: mit\n"}, "unknown: the folder names none"),
    ],
)
def test_what_is_not_known_is_not_taken_for_free(files: dict[str, str], title: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = read_licence(tmp_path)
    assert (found.id, found.title, found.open) == (UNKNOWN, title, False)


def test_a_derivative_cannot_claim_another_licence() -> None:
    with pytest.raises(ConfigError, match=r"release\.licence is 'Apache-2.0'.*LicenseRef-EXAONE-1\.2-NC"):
        refuse_contradiction(KNOWN[NC12], "Apache-2.0", "EXAONE-mine")
    refuse_contradiction(KNOWN[NC12], NC12.lower(), "EXAONE-mine")
    refuse_contradiction(KNOWN["Apache-2.0"], "MIT", "mine")


def test_the_name_of_a_derivative_begins_as_its_licence_asks() -> None:
    with pytest.raises(ConfigError, match=r"begin with 'K-EXAONE'"):
        refuse_contradiction(KNOWN["LicenseRef-K-EXAONE"], "LicenseRef-K-EXAONE", "mine")


def test_the_text_goes_with_what_is_built_from_the_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no LICENSE file"):
        text_for_release(tmp_path, KNOWN[NC12])
    (tmp_path / "LICENSE").write_text(HEADS[NC12])
    assert text_for_release(tmp_path, KNOWN[NC12]) == tmp_path / "LICENSE"
    assert text_for_release(tmp_path, KNOWN["Apache-2.0"]) is None


@pytest.mark.parametrize("licence", KNOWN.values(), ids=lambda k: k.id)
def test_what_is_not_open_says_what_it_asks_in_both_languages(licence) -> None:
    assert bool(licence.en) == bool(licence.ko) == bool(licence.prefix) == (not licence.open)
