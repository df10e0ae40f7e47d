"""Docstrings of public functions: shared parameters are filled in, and what has a source key has its reference."""

from __future__ import annotations

import inspect
import re

import pytest

import fisherstats as fs
from fisherstats.core.docstrings import SHARED, documented
from fisherstats.core.references import SOURCES

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (fs, fs.applications, fs.interop, fs.plotting, fs.testing, fs.training, fs.study)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_nothing_is_left_open(name):
    text = inspect.getdoc(PUBLIC[name])
    assert "%(" not in text
    keys = {key for key in re.findall(r"``([a-z0-9-]+)``", text) if key in SOURCES}
    if keys:
        section = text.partition("References\n----------\n")[2].partition("\n\n")[0]
        assert keys == set(re.findall(r"``([a-z0-9-]+)``\)\.", re.sub(r"\s+", " ", section)))


def test_most_functions_have_references():
    assert sum("References\n---" in inspect.getdoc(one) for one in PUBLIC.values()) > 45


def test_what_the_decorator_does():
    def function():
        """Say something.

        Parameters
        ----------
        %(engine)s

        Returns
        -------
        float
            Source key ``bounds``, name ``nothing``.

        Examples
        --------
        >>> 1
        1
        """

    text = inspect.getdoc(documented(function))
    assert SHARED["engine"] in text
    order = [text.index(heading) for heading in ("Parameters\n", "Returns\n", "References\n", "Examples\n")]
    assert order == sorted(order)
    assert "Theorem 4.1" in re.sub(r"\s+", " ", text)

    def wrong():
        """Say something.

        %(missing)s
        """

    with pytest.raises(KeyError):
        documented(wrong)
