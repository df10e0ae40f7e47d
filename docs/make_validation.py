"""Write docs/validation/index.md from the READMEs of the folders of `validation`: `python docs/make_validation.py`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "validation" / "index.md"

HEADER = """# Validation

What is claimed, and by which independent means it is checked. Each study is a folder of `validation/` that one command repeats;
`pytest -m validation` runs the checks of all. Written by `python docs/make_validation.py` from the READMEs there.

| study | claim | checked by |
|---|---|---|
"""

FOOTER = """
```{toctree}
:hidden:

coverage
```
"""


def section(text: str, title: str) -> str:
    """Return the first sentence of a section, empty where there is none."""
    _, found, rest = text.partition(f"## {title}")
    rest = rest.partition("\n")[2]
    lines = rest.strip().split("\n\n")[0] if found else ""
    sentence = re.split(r"(?<=[.:]) (?=[A-Z])", " ".join(lines.split()))[0]
    return sentence.rstrip(":").replace("|", r"\|")


def page() -> str:
    """Return the whole page."""
    rows = []
    for readme in sorted(ROOT.glob("validation/*/README.md")):
        text = readme.read_text(encoding="utf-8")
        rows.append(f"| `{readme.parent.name}` | {section(text, 'What is claimed')} | {section(text, 'How it is checked')} |")
    return HEADER + "\n".join(rows) + "\n" + FOOTER


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
