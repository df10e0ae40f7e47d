"""Streams that are closed, full, gone or lack a letter: the study is there, and the exit code says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr"):
    pytest.importorskip(needed)

from tests.study.test_users_files import NAMES, TOML  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shell and the devices of Linux")


def shell(folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "config.toml").write_text(TOML)
    return subprocess.run(
        ["bash", "-c", command.replace("fisherstats", f"{sys.executable} -m fisherstats", 1)],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.mark.parametrize(
    ("streams", "error"),
    [
        (
            ">/dev/full",
            "standard output cannot be written to (No space left on device); the study is complete: The report is é/report.html",
        ),
        (">&-", "standard output cannot be written to (it is closed); the study is complete"),
        ("> >(exec true); sleep 0", ""),
        ("2>&-", None),
        ("2>/dev/full", None),
        (">&- 2>&- <&-", None),
    ],
)
@pytest.mark.validation
def test_a_study_is_done(streams, error, tmp_path) -> None:
    done = shell(tmp_path, f"fisherstats study config.toml --out é {streams}")
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "é").iterdir()) == NAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "é"]
    assert "Traceback" not in done.stderr
    if error:
        assert error in done.stderr


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_a_stream_without_accents(variables, tmp_path) -> None:
    done = shell(tmp_path, "fisherstats study config.toml --out $'\\xc3\\xa9' --no-progress", **variables)
    if done.returncode == 1:  # the system cannot name the folder
        assert "`out` must be a path in UTF-8" in done.stderr
        return
    assert done.returncode == 0
    assert done.stdout == "The report is \\xe9/report.html\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("info >/dev/full", 1),
        ("info >&-", 1),
        ("info 2>&-", 0),
        ("--help >/dev/full", 1),
        ("study none.toml 2>/dev/full", 1),
        ("study none.toml 2>&-", 1),
    ],
)
def test_other_commands(command, code, tmp_path) -> None:
    done = shell(tmp_path, f"fisherstats {command}")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
