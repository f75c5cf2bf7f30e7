"""`Any` and `type: ignore` in the package say why they are there; what mypy itself checks, `sh test.sh` runs."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "synthio"
RECORD = re.compile(r"\bstr, Any\]")  # a record of JSON or the values of a template: known by its names, not its type
LOOSE = re.compile(r"\bAny\b|type: ignore")
REASON = re.compile(r"#(?! type: ignore\S*$)\s*\S|# type: ignore\S*\s+# \S")


def loose_lines(text: str) -> list[str]:
    """Lines with an `Any` or an ignore that neither they nor a comment above them explain."""
    lines, found = text.splitlines(), []
    for above, line in zip(["", *lines], lines, strict=False):
        is_code = not line.lstrip().startswith(("from ", "import ", "#", '"""'))
        explained = REASON.search(line) or above.lstrip().startswith("# ")
        if is_code and LOOSE.search(RECORD.sub("", line)) and not explained:
            found.append(line.strip())
    return found


def test_every_any_has_a_reason():
    found = {str(path): loose_lines(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_a_line_without_a_reason_is_found():
    assert loose_lines("x: Any = 1\ny: dict[str, Any] = {}\nz: Any = 1  # whatever the server sends") == ["x: Any = 1"]
    assert loose_lines("f(x)  # type: ignore[arg-type]") == ["f(x)  # type: ignore[arg-type]"]
    assert loose_lines("f(x)  # type: ignore[arg-type]  # the stubs are wrong") == []
