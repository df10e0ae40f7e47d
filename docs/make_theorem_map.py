"""Write docs/theorem_map.md from fisherstats.core.theorem_map: `python docs/make_theorem_map.py`."""

from __future__ import annotations

from pathlib import Path

from fisherstats.core.references import PAPERS
from fisherstats.core.theorem_map import STATEMENTS, Statement

HERE = Path(__file__).parent

HEADER = """# Theorem map

Every numbered statement of the papers, the function that computes it and the test that checks it, or the reason why there is
none. Written by `python docs/make_theorem_map.py` from `fisherstats/core/theorem_map.py`; a test fails when the two part
or a name does not exist.
"""


def line(one: Statement) -> str:
    """Return the row of a statement."""
    functions = ", ".join(f"`{name}`" for name in one.functions) or "none"
    tests = ", ".join(f"`{name}`" for name in one.tests) or "none"
    remark = "; ".join(part for part in (one.note and f"*in print:* {one.note}", one.reason) if part)
    cells = [cell.replace("|", r"\|") for cell in (one.number, one.says, functions, tests, remark)]
    return f"| {' | '.join(cells)} |"


def document() -> str:
    """Return the whole map."""
    parts = [HEADER]
    for paper in dict.fromkeys(one.paper for one in STATEMENTS):
        parts.append(f"\n## {PAPERS[paper]}\n\n| number | statement | functions | tests | remark |\n|---|---|---|---|---|\n")
        for one in STATEMENTS:
            if one.paper == paper:
                parts.append(line(one) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    (HERE / "theorem_map.md").write_text(document(), encoding="utf-8")
