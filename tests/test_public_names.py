"""Public modules can be imported by the names that the documentation writes; no name of a result is hidden by one of xarray's."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
import subprocess
import sys
from types import ModuleType

import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core.schema import COORDINATES, VARIABLES
from fisherstats.models import activations, families

LATE = ["plotting", "testing"]  # public, but not brought by `from fisherstats import *`
MODULES = [name for name in fs.__all__ if isinstance(getattr(fs, name), ModuleType)] + LATE


def test_the_public_modules_are_found():
    assert {"activations", "applications", "families", "interop", "study", "training"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_is_imported_by_its_name(name):
    module = importlib.import_module(f"fisherstats.{name}")
    assert module is getattr(fs, name)
    assert module is sys.modules[f"fisherstats.{name}"]
    assert module.__spec__ is not None
    assert module.__name__ == module.__spec__.name == f"fisherstats.{name}"


@pytest.mark.parametrize("name", MODULES)
def test_it_is_imported_first_in_a_new_process(name):
    program = (
        f"import fisherstats.{name} as module, fisherstats; assert module is fisherstats.{name}; from fisherstats.{name} import *"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("public", "inner"), [(fs.families, families), (fs.activations, activations)], ids=["families", "activations"]
)
def test_names_are_those_of_the_module_behind(public, inner):
    assert public.__all__ == inner.__all__
    assert {name for name in dir(public) if not name.startswith("_")} == {*inner.__all__, *_future(public)}
    for name in inner.__all__:
        assert getattr(public, name) is getattr(inner, name)


def _future(module):
    return {name for name in vars(module) if name == "annotations"}


def test_what_they_hold_is_pickled():
    from fisherstats.activations import get
    from fisherstats.families import Categorical

    assert pickle.loads(pickle.dumps(Categorical)) is Categorical is fs.families.Categorical
    assert isinstance(pickle.loads(pickle.dumps(Categorical(3))), Categorical)
    assert pickle.loads(pickle.dumps(get("tanh"))) == get("tanh")


def test_every_public_name_in_a_message_or_a_docstring_exists():
    for name in fs.__all__:
        text = inspect.getdoc(getattr(fs, name)) or ""
        for module, member in re.findall(r"fisherstats\.(\w+)\.(\w+)", text):
            assert hasattr(importlib.import_module(f"fisherstats.{module}"), member), (name, module, member)


# --- names of results ------------------------------------------------------------------------------------------------

TAKEN = {name for kind in (xr.Dataset, xr.DataArray, xr.DataTree) for name in dir(kind)}


def test_no_name_of_a_result_is_one_of_xarray_s():
    dims = {dim for row in VARIABLES.values() for dim in re.findall(r"\w+", row.dims)}
    names = {row.name for row in VARIABLES.values()} | dims | set(COORDINATES)
    assert sorted(names & TAKEN) == []
    assert {"mean", "rank", "values"} <= TAKEN
