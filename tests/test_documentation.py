"""The reference holds every public name, and pages that are written by scripts are what the scripts write."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = ["applications", "families", "activations", "interop", "plotting", "study", "testing", "training"]


def listed() -> dict[str, set[str]]:
    """Return the names in the reference by module."""
    names: dict[str, set[str]] = {}
    for page in ROOT.glob("docs/reference/*.md"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith(".. currentmodule:: "):
                module = line.partition(":: ")[2]
            elif re.fullmatch(r"   \w+", line):
                names.setdefault(module, set()).add(line.strip())
    return names


@pytest.mark.parametrize("name", ["fisherstats", *(f"fisherstats.{one}" for one in MODULES)])
def test_everything_public_is_in_the_reference(name: str) -> None:
    module = importlib.import_module(name)
    assert listed()[name] == {one for one in module.__all__ if callable(getattr(module, one))}


def test_the_page_of_the_validation_is_written_from_its_studies() -> None:
    specification = importlib.util.spec_from_file_location("make_validation", ROOT / "docs" / "make_validation.py")
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "python docs/make_validation.py"
