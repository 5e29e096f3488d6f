"""Carries the probe to a host that has nothing but Python: its sources travel with the request.

The words start a short program that takes request and sources from standard input, or from its
one argument where standard input does not arrive, and builds the package in memory.
"""

from __future__ import annotations

import ast
import base64
import json
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .canonical import Document

# Of Python on a host: what an older one is told, and the status that it ends with.
OLDEST_PYTHON = (3, 9)
TOO_OLD_STATUS = 3

# The kernel takes 128 KiB in one word.
MAX_ARGUMENT_BYTES = 100_000

_PACKAGE = "mlps_probe"
_DIRECTORY = Path(__file__).parent / "probe"

# One line, without a word that a shell of any kind would change inside single quotes; and up to the
# end of its second statement of a form that every Python reads. No module of the working directory
# may be imported instead of one of Python's own.
_BOOT = (
    "import sys; "
    f"sys.version_info < {OLDEST_PYTHON} and (sys.stderr.write("
    f'"the probe needs Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or later, this is " '
    f'+ sys.version.split()[0] + "\\n"), sys.exit({TOO_OLD_STATUS})); '
    "sys.path[:] = filter(None, sys.path); "
    "import base64, json, zlib; "
    "told = sys.argv[1:]; "
    "data = base64.b64decode(told[0]) if told "
    "else sys.stdin.buffer.read(int(sys.stdin.buffer.readline())); "
    "given = json.loads(zlib.decompress(data)); "
    'exec(given["loader"], {"given": given})'
)

# Behind the check of the version. The first module is the package itself.
_LOADER = f"""
import sys, types
for name, source in given["sources"]:
    full = "{_PACKAGE}." + name if name else "{_PACKAGE}"
    module = types.ModuleType(full)
    module.__package__ = "{_PACKAGE}"
    sys.modules[full] = module
    if name:
        setattr(sys.modules["{_PACKAGE}"], name, module)
    else:
        module.__path__ = []
    file = "mlps/engine/probe/" + (name or "__init__") + ".py"
    exec(compile(source, file, "exec"), module.__dict__)
sys.modules["{_PACKAGE}.main"].main(given["request"])
"""


def boot_argv(python: str) -> tuple[str, ...]:
    """The command on a host; its one argument more, if any, is a boot_argument."""
    # Neither variables nor packages of the user: the probe needs none and starts faster.
    return (python, "-E", "-s", "-S", "-c", _BOOT)


def payload(request: Document) -> bytes:
    """What the command reads. It takes no more, so that standard input may stay open behind it."""
    data = _packed(request)
    return b"%d\n%s" % (len(data), data)


def boot_argument(request: Document) -> str:
    """The same as one word of letters, digits, +, / and =."""
    word = base64.b64encode(_packed(request)).decode()
    if len(word) > MAX_ARGUMENT_BYTES:
        raise ValueError(f"the probe takes {len(word)} bytes, the limit is {MAX_ARGUMENT_BYTES}")
    return word


def _packed(request: Document) -> bytes:
    given = {"request": request, "loader": _LOADER, "sources": probe_sources()}
    return zlib.compress(json.dumps(given).encode(), 9)


@cache
def probe_sources() -> tuple[tuple[str, str], ...]:
    """Name and source of each module of the probe, after those that it imports; "" is the package.

    A cycle of imports raises ValueError.
    """
    sources = {path.stem: path.read_text() for path in sorted(_DIRECTORY.glob("*.py"))}
    package = sources.pop("__init__")
    needs = {name: set(_own_imports(source)) for name, source in sources.items()}
    order: list[str] = []
    while needs:
        ready = [name for name, needed in needs.items() if needed <= set(order)]
        if not ready:
            raise ValueError(f"modules of the probe import each other: {', '.join(needs)}")
        order += ready
        for name in ready:
            del needs[name]
    return (("", package), *((name, sources[name]) for name in order))


def _own_imports(source: str) -> Iterator[str]:
    """Modules of the package that a source imports: `from .a import b`, `from . import a`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            if node.module is not None:
                yield node.module
            else:
                yield from (alias.name for alias in node.names)
