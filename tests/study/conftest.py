"""The tiny study of `resuming`, uninterrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.study import resuming

    resuming.small_groups(monkeypatch)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty figures, for tests of where and when files are written: to draw takes most of the time of a tiny study."""
    from fisherstats.study import runner

    names = ("information", "standard_error", "relative_error", "bounds", "sweep")
    monkeypatch.setattr(runner, "_figures", lambda tree: dict.fromkeys(names, "<svg></svg>"))


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.DataTree, Path]:
    """The study that nothing has interrupted, and its store."""
    from tests.study import resuming

    store = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patched:
        resuming.small_groups(patched)
        return resuming.run(store), store


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The path of a file with the settings of that study."""
    from tests.study.resuming import CONFIG

    path = tmp_path / "config.toml"
    tables = [f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()) for name, table in CONFIG.items()]
    path.write_text("\n".join(tables))
    return str(path)
