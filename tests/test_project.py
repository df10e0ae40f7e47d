"""The files around the package: what they promise is what is there."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pytest
import yaml
from numpydoc.validate import validate

import fisherstats

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEST_COMMAND = 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest -n auto --dist worksteal'
STUDY_COMMAND = 'python3 -m venv .venv && .venv/bin/pip install -e ".[study]" && .venv/bin/fisherstats study'


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


# --- one version, and a citation of it -------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^\]]*)\] - (\d{4}-\d{2}-\d{2})$", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == fisherstats.__version__
    assert newest[2] == str(citation["date-released"])
    assert citation["version"] == fisherstats.__version__
    assert importlib.metadata.version("fisherstats") == fisherstats.__version__, "install again after a new version"


def test_every_changelog_entry_has_numerics() -> None:
    entries = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## [")[1:]
    assert entries
    for entry in entries:
        assert "\n### Numerics\n" in entry


def test_the_citation_names_the_three_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    found = {
        (paper["year"], " & ".join(author["family-names"] for author in paper["authors"]), paper["url"])
        for paper in citation["references"]
    }
    assert found == {
        (2021, "Soen & Sun", "https://arxiv.org/abs/2107.04205"),
        (2024, "Soen & Sun", "https://arxiv.org/abs/2402.05379"),
        (2017, "Sun & Nielsen", "https://arxiv.org/abs/1606.06069"),
    }


# --- the two commands ------------------------------------------------------------------------------------------------


def test_the_readme_has_exactly_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    assert [text for language, text in blocks if not language] == [f"{STUDY_COMMAND}\n", f"{TEST_COMMAND}\n"]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    shown = run("bash", ".ci/run", "--show", cwd=ROOT)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == f"{TEST_COMMAND}\n"


@pytest.mark.parametrize(
    "readme",
    [
        "",
        f"{TEST_COMMAND}\n",
        f"{TEST_COMMAND}\n{STUDY_COMMAND}\n",
        f"{STUDY_COMMAND}\n{TEST_COMMAND}\n{TEST_COMMAND}\n",
    ],
    ids=["empty", "one", "swapped", "three"],
)
def test_ci_stops_at_a_readme_without_them(readme: str, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    shown = run("bash", ".ci/run", "--show", cwd=tmp_path)
    assert shown.returncode == 1
    assert "README.md must hold two lines" in shown.stderr


# --- what is installed -----------------------------------------------------------------------------------------------


def requirements(extra: str) -> set[str]:
    """Return the requirements of an extra, those of the extras that it names included."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        nested = re.fullmatch(r"fisherstats\[(.*)\]", requirement)
        found |= set().union(*map(requirements, nested[1].split(","))) if nested else {requirement}
    return found


def test_all_is_every_extra_except_the_gpu_ones_and_the_peers() -> None:
    extras = set(PROJECT["optional-dependencies"])
    own = {"study", "test", "io", "distributed", "interop", "docs", "validation"}
    apart = {"gpu-cuda12", "gpu-cuda13", "benchmarks", "interop-test"}
    assert extras == {"all"} | own | apart
    promised = set().union(*map(requirements, own))
    assert requirements("all") == promised


def test_the_gpu_extras_are_never_installed_together() -> None:
    for extra in PROJECT["optional-dependencies"]:
        builds = {requirement for requirement in requirements(extra) if requirement.startswith("cupy")}
        assert len(builds) == (1 if extra.startswith("gpu-") else 0), extra


@pytest.mark.parametrize("library", ["netcdf4", "zarr", "dask"])
@pytest.mark.parametrize("extra", ["study", "test", "all"])
def test_what_writes_results_comes_with(extra: str, library: str) -> None:
    assert any(re.match(rf"{library}\b", requirement.lower()) for requirement in requirements(extra))


def test_the_wheel_is_typed_and_complete(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=ROOT)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fisherstats").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "fisherstats/py.typed" in files
    assert files <= names
    assert {name.split("/")[0] for name in names} == {"fisherstats", f"fisherstats-{fisherstats.__version__}.dist-info"}


# --- how it is built -------------------------------------------------------------------------------------------------


def test_the_tests_that_are_left_to_the_validation_exist() -> None:
    """A test that was renamed would run ordinarily again, or never be found in the table."""
    table = (ROOT / "conftest.py").read_text()
    names = re.findall(r'"(tests/[^":]+\.py)::(?:(\w+)::)?(test_\w+)"', table)
    assert len(names) > 50
    for file, group, function in names:
        text = (ROOT / file).read_text()
        assert f"def {function}(" in text, (file, function)
        assert not group or f"class {group}" in text, (file, group)


def test_every_source_file_is_short() -> None:
    folders = ("fisherstats", "tests", "validation", "benchmarks", "docs")
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lengths
    assert {name: length for name, length in lengths.items() if length >= 500} == {}


def modules() -> list[str]:
    return [name for _, name, _ in pkgutil.walk_packages(fisherstats.__path__, "fisherstats.") if "__main__" not in name]


def import_contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = f"config_filename={str(ROOT / 'pyproject.toml')!r}, no_cache=True, no_logo=True"
    program = f"import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports({arguments}))"
    return run(sys.executable, "-c", program, cwd=folder)


def test_imports_keep_to_the_floors() -> None:
    report = import_contracts(ROOT)
    assert report.returncode == 0, report.stdout


def test_the_table_of_floors_is_that_of_the_contract() -> None:
    specification = importlib.util.spec_from_file_location("make_floors", ROOT / "docs" / "make_floors.py")
    assert specification is not None
    assert specification.loader is not None
    make_floors = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(make_floors)
    assert make_floors.page() == make_floors.PAGE.read_text(encoding="utf-8"), "python docs/make_floors.py"


PACKAGES = sorted(path.parent.name for path in (ROOT / "fisherstats").glob("*/__init__.py"))


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("models/network.py", "from fisherstats.quantities import _labels", "Floors"),
        ("core/arrays.py", "def f(): from fisherstats.engines import kernels", "Floors"),
        ("execution/passes.py", "from fisherstats.models import network", "Floors"),
        ("loose.py", "", "Floors"),
        ("models/families.py", "from fisherstats.models import network", "No cycles"),
        ("quantities/_labels.py", "from fisherstats import fisher_information", "public face"),
        ("theory/fisher.py", "import xarray", "labelled objects"),
        ("engines/kernels.py", "import cupy", "cupy"),
        ("study/report.py", "def f(): import matplotlib.pyplot", "Optional libraries"),
        ("core/arrays.py", "", "cupy"),
        ("quantities/_labels.py", "import xarray", None),
        ("quantities/_labels.py", "from fisherstats.core import schema", None),
    ],
)
def test_the_contracts_catch_what_they_forbid(module: str, statement: str, contract: str | None, tmp_path: Path) -> None:
    """A tree of the floors alone, with one statement more; the exceptions that the contracts name must be there, too."""
    package = tmp_path / "fisherstats"
    files = {
        **dict.fromkeys(["__main__", "cli", "families", "activations", "_version"], ""),
        **dict.fromkeys([f"{name}/__init__" for name in PACKAGES], ""),
        "core/arrays": "import cupy\n",
        "core/schema": "",
        "engines/kernels": "",
        "execution/passes": "",
        "models/families": "",
        "models/network": "from fisherstats.models import families\n",
        "plotting/style": "import matplotlib\n",
        "quantities/_labels": "",
        "study/report": "",
        "theory/fisher": "",
    }
    for name, text in {"__init__": "", **files}.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with (package / f"{module}").open("w" if not statement else "a", encoding="utf-8") as source:
        source.write(f"{statement}\n")
    report = import_contracts(tmp_path)
    broken = re.findall(r"^(.*) BROKEN", report.stdout, flags=re.MULTILINE)
    assert (report.returncode != 0) == (contract is not None), report.stdout + report.stderr
    if (module, statement) == ("core/arrays.py", ""):  # an exception that nothing needs is an error of its own
        assert "No matches for ignored import fisherstats.core.arrays -> cupy" in " ".join(
            (report.stdout + report.stderr).split()
        )
    else:
        assert [contract in name for name in broken] == ([True] if contract else [])


def test_no_module_loads_an_optional_library_when_imported() -> None:
    optional = {"cupy", "dask", "distributed", "jinja2", "matplotlib", "netCDF4", "sklearn", "torch", "tqdm", "zarr"}
    optional |= {"equinox", "flax", "jax", "keras", "onnx", "safetensors", "statsmodels"}
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    loaded = run(sys.executable, "-c", program, *modules(), cwd=ROOT)
    assert loaded.returncode == 0, loaded.stderr
    assert set(loaded.stdout.split()) >= {"fisherstats", "xarray"}
    assert set(loaded.stdout.split()) & optional == set()


# --- docstrings ------------------------------------------------------------------------------------------------------

# numpydoc's codes. Form is asked of every offered name; a summary may be a statement or begin with a formula.
FORM = (
    {"GL02", "GL03", "GL05", "GL06", "GL07", "GL08", "GL10", "SS01", "SS06"}
    | {"PR02", "PR03", "PR04", "PR07", "PR10", "RT03"}
)  # fmt: skip
# Completeness is asked of what users call; interfaces are described, not called.
COMPLETE = FORM | {"PR01", "RT01", "EX01"}


def offered(module: ModuleType) -> dict[str, Any]:
    """Return the functions and classes in ``__all__``, and in that of the modules listed there, by dotted name."""
    found: dict[str, Any] = {}
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.ismodule(value):
            found |= offered(value)
        elif inspect.isfunction(value) or inspect.isclass(value):
            found[f"{module.__name__}.{name}"] = value
    return found


def complaints(name: str, codes: set[str]) -> list[str]:
    return [f"{name}: {code} {text}" for code, text in validate(name)["errors"] if code in codes]


def test_every_docstring_has_the_numpydoc_form() -> None:
    names = {name for module in modules() for name in offered(importlib.import_module(module))}
    assert names
    assert [line for name in sorted(names) for line in complaints(name, FORM)] == []


def test_the_docstrings_of_the_public_face_are_complete() -> None:
    found = []
    for name, value in offered(fisherstats).items():
        codes = COMPLETE
        if inspect.isclass(value):
            if issubclass(value, Exception) or inspect.isabstract(value) or Protocol in value.__mro__:
                continue
            if name != f"fisherstats.{value.__name__}":  # a family among families needs no example of its own
                codes = COMPLETE - {"EX01"}
        found += complaints(name, codes)
    assert found == []


def test_the_public_face_is_not_empty() -> None:
    assert {"fisherstats.MLP", "fisherstats.fisher_information"} <= set(offered(fisherstats))


def test_an_incomplete_docstring_is_noticed() -> None:
    assert [line.split()[1] for line in complaints(f"{__name__}.run", FORM)] == ["GL08"]
    assert complaints(f"{__name__}.requirements", FORM) == []
    assert {line.split()[1] for line in complaints(f"{__name__}.requirements", COMPLETE)} == {"PR01", "RT01", "EX01"}
