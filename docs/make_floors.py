"""Write the table of floors in docs/development/architecture.md: `python docs/make_floors.py`.

The floors are those of the import contract in pyproject.toml, and what lives in a module is the first sentence of its docstring.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "development" / "architecture.md"
BEGIN, END = "<!-- floors: written by docs/make_floors.py -->", "<!-- end of floors -->"


def sentence(path: Path) -> str:
    """Return the first sentence of the docstring of a module, as markdown."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = text.split("\n\n", 1)[0].replace("\n", " ")
    return re.sub(r":math:`([^`]*)`", r"$\1$", first).replace("|", r"\|").rstrip(".")


def file_of(module: Path) -> Path:
    """Return the file of a module or package, given without its ending."""
    return module / "__init__.py" if module.is_dir() else module.with_suffix(".py")


def floors() -> list[list[str]]:
    """Return the floors of the contract, top down, each with its packages and modules."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    return [re.findall(r"\w+", layer) for layer in layers]


def modules(package: Path) -> list[Path]:
    """Return what is directly within a package, subpackages last."""
    inside = [one for one in package.iterdir() if one.suffix == ".py" and one.name != "__init__.py"]
    inside += [one.parent for one in package.glob("*/__init__.py")]
    return sorted(inside, key=lambda one: (one.is_dir(), one.name))


def table() -> str:
    """Return the floors as a table, and a list of the modules of every package."""
    package = ROOT / "fisherstats"
    rows = ["| floor | what lives there |", "|---|---|"]
    lists = []
    for floor in floors():
        names = [f"`{name}/`" if (package / name).is_dir() else f"`{name}`" for name in floor]
        says = [sentence(file_of(package / name)) for name in floor]
        rows.append(f"| {', '.join(names)} | {'; '.join(says)} |")
        for name in sorted(floor):
            if (package / name).is_dir():
                lists.append(f"\n**{name}/**\n")
                lists += listed(package / name, "")
    return "\n".join([*rows, *lists])


def listed(package: Path, indent: str) -> list[str]:
    """Return the modules of a package as an indented list."""
    lines = []
    for one in modules(package):
        name = f"{one.name}/" if one.is_dir() else one.stem
        lines.append(f"{indent}- `{name}`: {sentence(file_of(one.with_suffix('')))}")
        if one.is_dir():
            lines += listed(one, f"{indent}  ")
    return lines


def page() -> str:
    """Return the page with the table as the tree has it now."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
