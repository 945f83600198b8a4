"""math-verify at work, one process: a line of JSON in, a line of JSON out. Run by its path, imports nothing of dokja.

Its parser reads hostile text, and SymPy can think about it for ever: the caller kills this process when it takes too
long (a time limit of its own would need SIGALRM and the main thread). Argument order of `verify` is (gold, answer).
"""

import contextlib
import ctypes
import json
import resource
import runpy
import sys
from typing import Any


def main() -> None:
    """Serve until standard input ends. The first line says the memory limit and the system calls to give up."""
    plan = json.loads(sys.stdin.readline())
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (plan["memory"], plan["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if plan["filter"]:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, ctypes.c_ulong(1), 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which a filter needs
        runpy.run_path(plan["inside"])["install_filter"](libc, bytes.fromhex(plan["filter"]))
    out = sys.stdout
    sys.stdout = sys.stderr  # nothing but answers goes out
    print(json.dumps({"ready": True}), file=out, flush=True)
    kinds = [LatexExtractionConfig(), ExprExtractionConfig()]
    for line in sys.stdin:
        asked = json.loads(line)
        said: dict[str, Any]
        try:
            sides = [parse(asked[k], extraction_config=kinds, parsing_timeout=None) for k in ("gold", "answer")]
            if not sides[0]:
                said = {"error": "math-verify cannot read the reference"}
            elif not sides[1]:
                said = {"same": None, "read": ""}
            else:
                same = bool(verify(*sides, timeout_seconds=None))
                said = {"same": same, "read": str(sides[1][0])[:200]}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(said), file=out, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
