"""Under which licence an imported model lies in its folder, and what that means for what is built from it.

Sources, best first: the text of the folder's LICENSE file (of the ones in `KNOWN`), then `license` and `license_name`
in the front matter of its README.md, which hubs read. What the table says of a licence is a summary of its clauses on
purpose, derivatives and names (2.1, 3.1 and 4 of the EXAONE licences, 2.1 and 2.2 of K-EXAONE's), not legal advice.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from dokja.errors import ConfigError, DataError

FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "LICENCE.md", "LICENCE.txt")
UNKNOWN = "LicenseRef-unknown"
LICENCE_INPUT = "init/licence"
"""In `Manifest.inputs`, beside the hashes of the checkpoint's files: the id of the licence it lies under."""


@dataclass(frozen=True)
class Licence:
    """A licence as a recipe, a manifest and a model card name it."""

    id: str
    """SPDX expression; LicenseRef-… where SPDX has none."""
    title: str
    en: str = ""
    """What it asks of whoever uses or builds on the model, in one sentence; empty where nothing out of the usual."""
    ko: str = ""
    prefix: str = ""
    """How the name of a derivative must begin."""
    open: bool = False
    """Whether what is built from the model may bear another licence."""


_NC_EN = (
    "No commercial use of the model, of what is built from it or of its output; distribution together with the "
    "licence's text; the name of a derivative begins with EXAONE; "
)
_NC_KO = (
    "모델과 그 파생물, 출력의 상업적 이용은 금지되고, 배포할 때는 라이선스 전문을 함께 두어야 하며, 파생 모델의 이름은 "
    "EXAONE으로 시작해야 합니다. "
)
KNOWN: dict[str, Licence] = {
    known.id: known
    for known in (
        Licence(
            "LicenseRef-EXAONE-1.1-NC",
            "EXAONE AI Model License Agreement 1.1 - NC",
            _NC_EN + "research only, the licensor owns the output, and neither model nor output may serve to develop "
            "other models.",
            _NC_KO
            + "연구 목적으로만 쓸 수 있고, 출력의 소유권은 라이선스 제공자에게 있으며, 모델이나 출력을 다른 모델의 "
            "개발에 쓸 수 없습니다.",
            "EXAONE",
        ),
        Licence(
            "LicenseRef-EXAONE-1.2-NC",
            "EXAONE AI Model License Agreement 1.2 - NC",
            _NC_EN + "research and education only, and neither model nor output may serve to develop models that "
            "compete with the licensor's.",
            _NC_KO
            + "연구와 교육 목적으로만 쓸 수 있고, 모델이나 출력을 라이선스 제공자와 경쟁하는 모델의 개발에 쓸 수 "
            "없습니다.",
            "EXAONE",
        ),
        Licence(
            "LicenseRef-K-EXAONE",
            "K-EXAONE AI Model License Agreement",
            "Commercial use is allowed, but making the model or a derivative available to third parties for commercial "
            "purposes needs an agreement of its own; the licence's text goes with it, and the name of a derivative "
            "begins with K-EXAONE.",
            "상업적 이용은 허용되지만, 모델이나 파생물을 제3자에게 상업적으로 제공하려면 별도의 계약이 필요합니다. "
            "배포할 때는 라이선스 전문을 함께 두어야 하며, 파생 모델의 이름은 K-EXAONE으로 시작해야 합니다.",
            "K-EXAONE",
        ),
        Licence("Apache-2.0", "Apache License 2.0", open=True),
        Licence("MIT", "MIT License", open=True),
        Licence("BSD-3-Clause", "BSD 3-Clause License", open=True),
    )
}
_STRICTEST = "LicenseRef-EXAONE-1.1-NC"
_TITLES = (  # as the licences' first lines have them, white space folded
    (re.compile(r"\bK-EXAONE AI Model License Agreement", re.I), "LicenseRef-K-EXAONE"),
    (re.compile(r"\bEXAONE AI Model License Agreement 1\.1 ?- ?NC", re.I), "LicenseRef-EXAONE-1.1-NC"),
    (re.compile(r"\bEXAONE AI Model License Agreement 1\.2 ?- ?NC", re.I), "LicenseRef-EXAONE-1.2-NC"),
    (re.compile(r"\bApache License,? Version 2\.0", re.I), "Apache-2.0"),
    (re.compile(r"^MIT License", re.I), "MIT"),
)


def licence_file(folder: Path) -> Path | None:
    """The folder's licence text, if one lies there."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_licence(folder: Path) -> Licence:
    """The licence of the model in `folder`. Where none is known the title says what was found: nothing is assumed to
    be free."""
    text = ""
    if (path := licence_file(folder)) is not None:
        text = path.read_text(encoding="utf-8", errors="replace")
        head = " ".join(text[:2000].split())
        for title, name in _TITLES:
            if title.search(head):
                return KNOWN[name]
    front = front_matter(folder / "README.md")
    given, name = front.get("license", ""), front.get("license_name", "")
    for known in KNOWN.values():
        if known.id.lower() in (given.lower(), name.lower()):
            return known
    if name.lower().startswith("k-exaone"):
        return KNOWN["LicenseRef-K-EXAONE"]
    if name.lower().startswith("exaone"):  # all versions bear this name on the hub; the text told them apart
        return KNOWN[_STRICTEST]
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    words = name or (given if given.lower() != "other" else "") or first
    return Licence(UNKNOWN, f"unknown: {words[:100]}" if words else "unknown: the folder names none")


def by_id(name: str) -> Licence:
    """The licence behind an id that a manifest holds; an unknown one is itself its title."""
    return KNOWN.get(name) or Licence(name, "an unknown licence" if name == UNKNOWN else name)


def front_matter(readme: Path) -> dict[str, str]:
    """The plain `key: value` lines between the first two `---` of a README; empty where there are none."""
    try:
        lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    if not lines or lines[0].strip() != "---":
        return {}
    found: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            return found
        key, colon, value = line.partition(":")
        if colon and key == key.strip():
            found[key] = _unquoted(value.strip())
    return {}


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value


def refuse_contradiction(base: Licence, licence: str, name: str) -> None:
    """ConfigError where a release called `name` under `licence` claims what its base's licence does not give."""
    if base.open:
        return
    if licence.lower() != base.id.lower():
        raise ConfigError(
            f"release.licence is {licence!r}, but the model is built from a checkpoint under {base.id} ({base.title}), "
            f"which does not allow that. Leave release.licence out, or set it to {base.id!r}."
        )
    if not name.startswith(base.prefix):
        raise ConfigError(
            f"release.name is {name!r}; {base.title} asks that the name of a derivative begin with {base.prefix!r}. "
            f"Leave release.name out, or set it to '{base.prefix}-{name}'."
        )


def text_for_release(folder: Path, base: Licence) -> Path | None:
    """The licence text that has to go with a release of a derivative. DataError where it is asked for and absent."""
    found = licence_file(folder)
    if found is None and base.prefix:
        raise DataError(
            f"{folder} has no LICENSE file, and {base.title} has to lie beside what is built from the model. "
            "Copy the file from where the model came from."
        )
    return None if base.open else found
