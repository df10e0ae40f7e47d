"""The theorem map is complete, names what exists, and is the one that its table gives."""

from __future__ import annotations

import importlib.util
from functools import reduce
from pathlib import Path

import pytest

import fisherstats
from fisherstats.core import references, schema
from fisherstats.core.theorem_map import STATEMENTS

ROOT = Path(__file__).parents[2]


def resolved(name: str) -> object:
    """Return what a dotted name inside fisherstats stands for."""
    parts = name.split(".")
    for cut in range(len(parts), -1, -1):
        module = ".".join(["fisherstats", *parts[:cut]])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[cut:], found)
    raise AttributeError(name)


@pytest.mark.parametrize("one", STATEMENTS, ids=lambda one: f"{one.paper} {one.number} {one.says[:20]}")
def test_every_statement_has_a_function_and_a_test_or_a_reason(one):
    assert one.paper in references.PAPERS
    assert (one.functions and one.tests) or one.reason
    for name in one.functions:
        assert callable(resolved(name))
    for name in one.tests:
        assert (ROOT / name).exists()


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_theorem_map", ROOT / "docs" / "make_theorem_map.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs" / "theorem_map.md").read_text(encoding="utf-8") == script.document()


def test_every_source_is_used_and_belongs_to_a_paper():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "fisherstats").rglob("*.py"))
    used = {variable.source for variable in schema.VARIABLES.values()}
    for key, source in references.SOURCES.items():
        assert source.paper in references.PAPERS
        assert key in used or text.count(f"``{key}``") or text.count(f'"{key}"') > 1


def test_a_missing_function_would_be_noticed():
    with pytest.raises(AttributeError):
        resolved("theory.fisher.no_such_theorem")
    assert fisherstats.fisher_information is resolved("fisher_information")
