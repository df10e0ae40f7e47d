"""Studies through clients: the same bits whoever computes, also when a worker dies."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import xarray as xr

from fisherstats import cli

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr", "dask", "distributed"):
    pytest.importorskip(needed)
psutil = pytest.importorskip("psutil")

from tests.study.resuming import CONFIG, files, part, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("small_groups")


def test_every_client_gives_the_same_store(anywhere, whole, tmp_path) -> None:
    assert run(tmp_path / "store", client=anywhere).identical(whole[0])
    assert files(tmp_path / "store") == files(whole[1])


def test_going_on_with_another_client(client, whole, tmp_path) -> None:
    store = part(tmp_path / "store", 7)
    assert run(store, client=client).identical(whole[0])
    assert files(store) == files(whole[1])


def test_without_a_store(client, whole) -> None:
    assert run(client=client).identical(whole[0])


def test_a_killed_worker_changes_nothing(client, whole, tmp_path) -> None:
    victim = next(iter(client.run(os.getpid).values()))
    timer = threading.Timer(0.3, os.kill, (victim, signal.SIGKILL))
    long = {**CONFIG, "analysis": {"inputs": 20, "n_draws": [1, 3], "replicates": 60}}
    timer.start()
    found = run(tmp_path / "store", long, client=client)
    timer.join()
    assert victim not in client.run(os.getpid).values()
    assert found.identical(run(config=long))


@pytest.mark.usefixtures("no_figures")
class TestCommandLine:
    def results(self, out: Any) -> xr.DataTree:
        with xr.open_datatree(out / "study.nc", engine="netcdf4") as opened:
            return opened.load()

    @pytest.mark.validation
    def test_workers(self, tmp_path, config, whole, capfd) -> None:
        """Their start, and a study with the workers of a scheduler, are tested on their own below."""
        before = psutil.Process().children(recursive=True)
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--workers", "2", "--no-progress"]) == 0
        assert capfd.readouterr() == (f"The report is {tmp_path / 'out' / 'report.html'}\n", "")
        assert self.results(tmp_path / "out").identical(whole[0])
        left = [one for one in psutil.Process().children(recursive=True) if one not in before]
        # The helper of multiprocessing that tidies up after processes lives as long as this one.
        assert [one for one in left if "resource_tracker" not in " ".join(one.cmdline())] == []

    def test_workers_can_be_reached_from_this_machine_alone(self) -> None:
        before = {one.laddr for one in psutil.Process().net_connections("inet")}
        with cli._client(argparse.Namespace(workers=2, scheduler=None)) as client:
            client.wait_for_workers(2, timeout=60)
            every = [psutil.Process(), *psutil.Process().children(recursive=True)]
            listening = {
                one.laddr for process in every for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN
            }
        assert len(listening - before) >= 3
        assert {address.ip for address in listening - before} == {"127.0.0.1"}

    def test_scheduler(self, tmp_path, config, whole, local_cluster, capfd) -> None:
        address = local_cluster.scheduler_address
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--scheduler", address, "--no-progress"]) == 0
        assert self.results(tmp_path / "out").identical(whole[0])

    def test_no_scheduler(self, tmp_path, config, capsys, monkeypatch) -> None:
        monkeypatch.setattr(cli, "_PATIENCE", 0.5)
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:9"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(
            "fisherstats: `--scheduler` must be the address of a running dask scheduler, got 'tcp://127.0.0.1:9' ("
        )
        assert error.count("\n") == 1

    @pytest.mark.parametrize("number", ["0", "-2"])
    def test_no_workers(self, tmp_path, config, capsys, number) -> None:
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--workers", number]) == 1
        assert capsys.readouterr().err == f"fisherstats: `--workers` must be a positive integer, got {number}.\n"

    def test_one_or_the_other(self, capsys) -> None:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["study", "--workers", "2", "--scheduler", "tcp://127.0.0.1:9"])
        assert stopped.value.code == 2
        assert "not allowed with" in capsys.readouterr().err

    def test_without_the_extra(self, tmp_path, config, capsys, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--workers", "2"]) == 1
        assert "fisherstats[distributed]" in capsys.readouterr().err

    def start(self, tmp_path, config) -> tuple[subprocess.Popen[bytes], list[Any]]:
        """Start the command with two workers, in a process group of its own; return it and them when something is kept."""
        (tmp_path / "program.py").write_text(
            "import signal, sys\nfrom fisherstats import cli\nfrom fisherstats.study import plan\nplan._MOST_REPLICATES = 2\n"
            "if __name__ == '__main__':\n    signal.signal(signal.SIGINT, signal.default_int_handler)\n    sys.exit(cli.main())"
        )
        process = subprocess.Popen(
            [
                sys.executable,
                str(tmp_path / "program.py"),
                "study",
                config,
                "--out",
                str(tmp_path / "out"),
                "--workers",
                "2",
                "--no-progress",
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 100
        while not (tmp_path / "out.unfinished" / "exact").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        return process, workers

    def gone(self, workers: list[Any]) -> bool:
        """Wait until the workers have ended; nobody may be there to collect what is left of them."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in workers):
                return True
            time.sleep(0.05)
        return False

    @pytest.mark.validation
    def test_a_killed_command_takes_its_workers_along_and_can_be_gone_on_with(self, tmp_path, config, whole) -> None:
        process, workers = self.start(tmp_path, config)
        process.kill()
        process.communicate()
        assert self.gone(workers)
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--resume", "--no-progress"]) == 0
        assert self.results(tmp_path / "out").identical(whole[0])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "out", "program.py"]

    @pytest.mark.validation
    def test_ctrl_c_at_the_terminal_reaches_the_workers_too(self, tmp_path, config) -> None:
        process, workers = self.start(tmp_path, config)
        os.killpg(process.pid, signal.SIGINT)
        shown = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 130
        assert shown == f"fisherstats: interrupted; {tmp_path / 'out.unfinished'} holds the finished work; rerun with --resume.\n"
        assert self.gone(workers)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "out.unfinished", "program.py"]
