"""One line of JSON on stderr for every request, without a word of what was said unless that is asked for."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger("dokja.serve.requests")


@dataclass
class Note:
    """What is known of a request; `facts` grow while it is served."""

    path: str
    method: str
    status: int = 0
    began: float = field(default_factory=time.monotonic)
    facts: dict[str, Any] = field(default_factory=dict)
    key: str | None = None

    def write(self, level: int = logging.INFO) -> None:
        """The request is over."""
        if not _log.isEnabledFor(level):
            return
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "seconds": round(time.monotonic() - self.began, 4),
            **({"key": self.key} if self.key else {}),
            **self.facts,
        }
        _log.log(level, json.dumps(line, ensure_ascii=True, default=str))


def start_log() -> None:
    """Lines go to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.handlers, _log.propagate = [handler], False
    _log.setLevel(logging.INFO)
