"""The command line: exit codes, messages, and what Ctrl-C leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from fisherstats import cli
from fisherstats.core import atomic_directory

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr"):
    pytest.importorskip(needed)

QUICK = """
[model]
hidden = [4]
epochs = 3
[analysis]
inputs = 6
n_draws = [2]
replicates = {replicates}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(QUICK.format(replicates=2))
    return path


def test_study_writes_a_report(tmp_path, config, capsys):
    assert cli.main(["study", str(config), "--out", str(tmp_path / "out"), "--no-progress"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == f"The report is {tmp_path / 'out' / 'report.html'}\n"
    assert (tmp_path / "out" / "report.html").is_file()


def test_progress_is_on_unless_refused(tmp_path, config, capsys):
    assert cli.main(["study", str(config), "--out", str(tmp_path / "out"), "--seed", "3"]) == 0
    assert "replicates, N = 2" in capsys.readouterr().err
    assert "<td>3</td>" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "none.toml"], "`config` must be an existing TOML file, got 'none.toml', which does not exist."),
        (["study", "--seed", "-1"], "`seed` must be an integer of at least 0, got -1."),
        (["study", "--out", __file__], f"`out` must be a directory or a path that does not exist, got {__file__!r}"),
    ],
)
def test_refusals_are_one_line_and_exit_1(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"fisherstats: {message[:70]}")
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["stuidy"], ["study", "--sed", "x"], ["study", "--seed", "one"]])
def test_a_command_line_that_cannot_be_read_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: fisherstats" in capsys.readouterr().err


def test_info_names_versions_and_the_reason_for_no_gpu(capsys, monkeypatch):
    from fisherstats.core import arrays

    reason = "it is disabled by the environment variable FISHERSTATS_DISABLE_GPU"
    monkeypatch.setattr(arrays, "gpu_status", lambda: (False, reason))
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fisherstats  ")
    assert f"gpu          none: {reason}" in lines
    for name in ("numpy", "scipy", "numba", "xarray", "cores"):
        assert any(line.startswith(f"{name} ") for line in lines)


def test_ctrl_c_that_a_library_reports_as_its_own_failure_is_still_ctrl_c(monkeypatch, capsys):
    def loading(*arguments):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr(cli, "_study", loading)
    assert cli.main(["study"]) == 130
    assert capsys.readouterr().err == "fisherstats: interrupted; no partial results are left.\n"


def test_python_m(config, tmp_path):
    done = subprocess.run([sys.executable, "-m", "fisherstats", "info"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("fisherstats  ")


def test_an_interrupt_that_python_drops_is_heard(config, tmp_path, monkeypatch, capsys):
    class Dropping:
        def __del__(self):
            raise KeyboardInterrupt

    def study(parsed, kept):
        Dropping()
        time.sleep(10)
        raise AssertionError

    monkeypatch.setattr(cli, "_study", study)
    start, hook = time.monotonic(), sys.unraisablehook
    # Processes of a parallel test run ignore SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["study"]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - start < 5
    assert sys.unraisablehook is hook
    assert "interrupted" in capsys.readouterr().err


class TestInterrupt:
    """A real process, a real SIGINT."""

    def start(self, config, out):
        # A pytest in the background of a shell hands down an ignored SIGINT, so the handler is set anew.
        program = (
            "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "runpy.run_module('fisherstats', run_name='__main__')"
        )
        return subprocess.Popen(
            [sys.executable, "-c", program, "study", str(config), "--out", str(out)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def interrupt(self, process, word, delay):
        """Send SIGINT `delay` seconds after the progress bar shows `word`, and return what was shown after it."""
        shown = b""
        while word and word.encode() not in shown:
            read = os.read(process.stderr.fileno(), 4096)
            assert read, shown.decode()
            shown += read
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
        return (shown + rest).decode()

    def test_while_training(self, tmp_path):
        config, out = tmp_path / "config.toml", tmp_path / "results" / "out"
        config.write_text(QUICK.format(replicates=2).replace("epochs = 3", "epochs = 100000"))
        process = self.start(config, out)
        shown = self.interrupt(process, "training", 0.1)
        assert process.returncode == 130
        assert shown.splitlines()[-1].endswith("fisherstats: interrupted; no partial results are left.")
        assert "Traceback" not in shown
        assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [config]

    @pytest.mark.parametrize("delay", [0.0, 0.3], ids=["first", "later"])
    def test_while_computing(self, tmp_path, delay):
        config, out = tmp_path / "config.toml", tmp_path / "results" / "out"
        config.write_text(QUICK.format(replicates=10**6))
        process = self.start(config, out)
        shown = self.interrupt(process, "replicates", delay)
        kept = tmp_path / "results" / "out.unfinished"
        assert process.returncode == 130
        assert shown.splitlines()[-1].endswith(f"fisherstats: interrupted; {kept} holds the finished work; rerun with --resume.")
        assert "Traceback" not in shown
        assert list((tmp_path / "results").iterdir()) == [kept]

    @pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3])
    @pytest.mark.validation
    def test_while_writing(self, tmp_path, config, delay):
        """Whatever the moment: the new study complete, or the earlier one untouched, and then what was computed is kept."""
        out = tmp_path / "results" / "out"
        out.mkdir(parents=True)
        (out / "report.html").write_text("the earlier report")
        atomic_directory.sign(out)
        process = self.start(config, out)
        shown = self.interrupt(process, "writing", delay)
        there = sorted(path.name for path in out.parent.iterdir())
        names = sorted(path.name for path in out.iterdir())
        if process.returncode == 130:
            assert "interrupted" in shown.splitlines()[-1]
            assert there in (["out", "out.unfinished"], ["out"])
        else:
            assert process.returncode == 0
            assert there == ["out"]
        if names == [".fisherstats", "report.html"]:
            assert process.returncode == 130
            assert there == ["out", "out.unfinished"]
            assert (out / "report.html").read_text() == "the earlier report"
        else:
            assert names == [".fisherstats", "report.html", "study.nc", "study.zarr"]

    def test_while_starting(self, tmp_path, config):
        """Before the command line runs, Python itself ends on SIGINT; nothing may be left then either.

        Python drops an interrupt that arrives in a callback, with which every import ends: one presses Ctrl-C again.
        """
        process = self.start(config, tmp_path / "out")
        time.sleep(0.2)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
