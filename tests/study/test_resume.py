"""Studies that are killed and gone on with: the same bits, refusals that say what has changed, errors that lose nothing."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fisherstats import checkpoints, cli, measurements, study

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr", "dask"):
    pytest.importorskip(needed)

CONFIG: dict[str, Any] = {
    "model": {"hidden": [5], "epochs": 3},
    "analysis": {"inputs": 20, "n_draws": [1, 3], "replicates": 6},
}
PIECES = 4 + 5 + 6  # exact, variances, those of layers, bounds; scales; groups of replicates

#: groups of two replicates, as those of a study that is not tiny; and a study that is killed if so asked
PROGRAM = """
import json, os, signal, sys, threading
from fisherstats import measurements, study
measurements._MOST_REPLICATES = 2
config, place, store, after = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
if after >= 0:
    threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
print("started", flush=True)
study.run(config, out=place or None, store=store)
os._exit(0)
"""


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "_MOST_REPLICATES", 2)


def run(store: Path | None = None, config: Any = CONFIG, **more: Any) -> xr.DataTree:
    return study.run(config, **({"out": None, "store": store} | more))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.DataTree, Path]:
    """A study that nothing has interrupted, and its store."""
    store = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measurements, "_MOST_REPLICATES", 2)
        return run(store), store


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def marks(store: Path) -> np.ndarray:
    return checkpoints.read(store, "progress")["mark"].values


class Stopped(Exception):
    """Ends a run from within, as a kill would."""


def stop_after(monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """Let the next run end before it writes one more piece than `pieces`."""
    written = 0
    write = checkpoints.Store.write

    def counted(self: checkpoints.Store, piece: int, dataset: xr.Dataset) -> None:
        nonlocal written
        if written == pieces:
            raise Stopped
        written += 1
        write(self, piece, dataset)

    monkeypatch.setattr(checkpoints.Store, "write", counted)


def part(store: Path, pieces: int) -> Path:
    """Make the store of a study that has ended early."""
    with pytest.MonkeyPatch.context() as patched:
        stop_after(patched, pieces)
        with pytest.raises(Stopped):
            run(store)
    return store


def start(store: Path, after: float = -1.0, out: Path | str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(CONFIG), str(out), str(store), str(after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> int:
    error = process.communicate(timeout=120)[1]
    assert process.returncode in (0, -signal.SIGKILL), error.decode()
    return process.returncode


@pytest.fixture(scope="module")
def duration(tmp_path_factory) -> float:
    """Seconds from the start of the study to its end, on this machine as it is now."""
    process = start(tmp_path_factory.mktemp("timed") / "store")
    assert process.stdout is not None
    process.stdout.readline()
    begun = time.monotonic()
    assert finish(process) == 0
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measurements, "_MOST_REPLICATES", 2)
        return part(tmp_path_factory.mktemp("begun") / "store", 5)


class TestStore:
    def test_it_changes_nothing(self, whole) -> None:
        assert whole[0].identical(run())

    def test_groups_do_not_change_the_estimates(self, whole, monkeypatch) -> None:
        monkeypatch.setattr(measurements, "_MOST_REPLICATES", 500)
        together = run()
        np.testing.assert_array_equal(together["estimates/estimate"], whole[0]["estimates/estimate"])
        xr.testing.assert_allclose(together, whole[0], rtol=1e-14)

    def test_readers_see_the_tree_in_it(self, whole) -> None:
        tree, store = whole
        with xr.open_datatree(store, engine="zarr") as opened:
            for name in tree.children:
                assert opened[name].to_dataset().load().identical(tree[name].to_dataset())
            assert opened.attrs == tree.attrs
            assert set(opened.children) - set(tree.children) == {"layer_variance", "progress", "replicates"}
            assert opened["replicates"].sizes["group"] == 6
            assert opened["replicates/n_draws"].values.tolist() == [1, 1, 1, 3, 3, 3]
            assert opened["replicates/replicates"].values.tolist() == [2] * 6

    def test_a_second_store_is_the_same_in_every_file(self, whole, tmp_path) -> None:
        run(tmp_path / "again")
        assert files(tmp_path / "again") == files(whole[1])

    def test_nothing_else_is_left(self, whole) -> None:
        assert [path.name for path in whole[1].parent.iterdir()] == ["store"]


class TestResume:
    @pytest.mark.parametrize("pieces", [0, 1, 4, 7, 10, PIECES - 1, PIECES, PIECES + 1])
    def test_stopped_between_pieces(self, tmp_path, whole, pieces) -> None:
        store = part(tmp_path / "store", pieces)
        assert np.count_nonzero(marks(store)) == pieces
        assert run(store).identical(whole[0])
        assert files(store) == files(whole[1])

    def test_only_what_is_missing_is_computed(self, tmp_path, monkeypatch) -> None:
        store = part(tmp_path / "store", 11)
        computed = []
        measure = measurements.measure

        def counted(measured: Any, step: measurements.Step, num_threads: int | None) -> xr.Dataset:
            computed.append(step.name)
            return measure(measured, step, num_threads)

        def no_training(*arguments: Any) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr(measurements, "measure", counted)
        monkeypatch.setattr("fisherstats.experiment._train", no_training)
        run(store)
        assert computed == ["replicates, N = 1"] + ["replicates, N = 3"] * 3

    def test_stopped_between_the_results_and_their_mark(self, tmp_path, whole, monkeypatch) -> None:
        for stop_at in (0, 2, 6, 11, PIECES):
            store = tmp_path / f"store {stop_at}"
            with pytest.MonkeyPatch.context() as patched:
                mark = checkpoints.Store._mark

                def unmarked(self: Any, piece: int, digest: Any, stop_at: int = stop_at, mark: Any = mark) -> None:
                    if piece == stop_at:
                        raise Stopped
                    mark(self, piece, digest)

                patched.setattr(checkpoints.Store, "_mark", unmarked)
                with pytest.raises(Stopped):
                    run(store)
            assert marks(store)[stop_at] == 0
            assert run(store).identical(whole[0])
            assert files(store) == files(whole[1])

    def test_torn_files_of_a_kill_are_taken_away(self, tmp_path, whole) -> None:
        store = part(tmp_path / "store", 12)
        (store / "replicates" / "squared_deviation" / f"3.0.{'0' * 32}.partial").write_bytes(b"half of i")
        (store / "progress" / "mark" / "13").write_bytes(b"")  # where files are not written by renaming
        assert run(store).identical(whole[0])
        assert files(store) == files(whole[1])

    def test_a_study_that_is_complete_is_not_computed_again(self, whole, tmp_path, monkeypatch) -> None:
        tree, store = whole
        place = tmp_path / "out"
        assert run(store, out=place).identical(tree)
        before = files(place)

        def refused(*arguments: Any) -> None:
            raise AssertionError("done again")

        for name in ("measure", "_replicates"):
            monkeypatch.setattr(measurements, name, refused)
        monkeypatch.setattr(study, "_write", refused)
        monkeypatch.setattr(study, "_figures", refused)
        assert run(store, out=place).identical(tree)
        assert files(place) == before

    def test_progress_starts_at_what_is_done(self, tmp_path, capsys) -> None:
        store = part(tmp_path / "store", 9)
        capsys.readouterr()
        run(store, progress=True)
        shown = capsys.readouterr().err
        assert f"{1 + 9}/{1 + PIECES}" in shown
        assert f"{9}/{1 + PIECES}" not in shown.replace(f"1{9}/", "")


class TestKilled:
    """Real processes and SIGKILL."""

    def killed_until_done(self, store: Path, moments: list[float], out: Path | str = "") -> int:
        """Kill run after run, then let one end; return how many were killed while something was kept."""
        useful = 0
        for moment in moments:
            if finish(start(store, moment, out)) == 0:
                break
            useful += store.exists() and bool(np.count_nonzero(marks(store)))
        assert finish(start(store, out=out)) == 0
        return useful

    def test_a_few_times(self, tmp_path, whole, duration) -> None:
        moments = [duration * part for part in (0.5, 0.4, 0.3)]
        self.killed_until_done(tmp_path / "store", moments)
        assert files(tmp_path / "store") == files(whole[1])

    @pytest.mark.validation
    def test_twenty_times(self, tmp_path, whole, duration) -> None:
        """At random moments; four studies are begun, so that early moments are met as well as late ones."""
        dice = random.Random(7)
        useful = 0
        for number in range(4):
            store, out = tmp_path / f"store {number}", tmp_path / f"out {number}"
            moments = [duration * dice.uniform(0.2, 0.9) for _ in range(5)]
            useful += self.killed_until_done(store, moments, out)
            assert files(store) == files(whole[1])
            with xr.open_datatree(out / "study.nc", engine="netcdf4") as opened:
                assert opened.load().identical(whole[0])
            assert sorted(path.name for path in out.iterdir()) == ["report.html", "study.nc", "study.zarr"]
        assert useful >= 4
        left = {path.name for path in tmp_path.iterdir()} - {f"{one} {number}" for one in ("store", "out") for number in range(4)}
        assert left == set()

    def test_a_killed_run_leaves_no_lock_and_two_runs_refuse_each_other(self, tmp_path, whole) -> None:
        store = tmp_path / "store"
        with checkpoints.exclusive(store):
            process = start(store)
            error = process.communicate(timeout=120)[1].decode()
            assert process.returncode == 1
            assert f"`store` must not be in use, got '{store}', which another run is writing; wait until it ends." in error
        waiting = "import sys, time\nfrom pathlib import Path\nfrom fisherstats import checkpoints\n" + (
            "with checkpoints.exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(100)"
        )
        holder = subprocess.Popen([sys.executable, "-c", waiting, str(store)], stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="`store` must not be in use"):
            run(store)
        holder.kill()
        holder.communicate()
        assert run(store).identical(whole[0])
        assert [path.name for path in tmp_path.iterdir()] == ["store"]

    def test_two_threads_refuse_each_other(self, tmp_path) -> None:
        found: list[BaseException] = []

        def other() -> None:
            try:
                run(tmp_path / "store")
            except ValueError as error:
                found.append(error)

        with checkpoints.exclusive(tmp_path / "store"):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert "must not be in use" in str(found[0])


class TestRefusals:
    def changed(self, **tables: Any) -> dict[str, Any]:
        return {key: {**CONFIG.get(key, {}), **tables.get(key, {})} for key in CONFIG.keys() | tables.keys()}

    @pytest.mark.parametrize(
        ("tables", "message"),
        [
            ({"analysis": {"replicates": 8}}, r"analysis\.replicates was 6 and is 8 now\. Go back to what it was, give another"),
            ({"analysis": {"n_draws": [1]}}, r"analysis\.n_draws was \[1, 3\] and is \[1\] now"),
            ({"analysis": {"inputs": 21}}, r"analysis\.inputs was 20 and is 21 now"),
            ({"analysis": {"target_standard_error": 0.2}}, r"analysis\.target_standard_error was 0\.1 and is 0\.2 now"),
            (
                {"model": {"hidden": [6], "epochs": 4}},
                r"model\.epochs was 3 and is 4 now; model\.hidden was \[5\] and is \[6\] now",
            ),
        ],
    )
    def test_another_configuration(self, begun, tables, message) -> None:
        before = files(begun)
        with pytest.raises(ValueError, match=rf"`store` must hold results of the same study, got '.*store', but {message}"):
            run(begun, self.changed(**tables))
        assert files(begun) == before

    def test_another_seed(self, begun) -> None:
        with pytest.raises(ValueError, match=r"but seed was 0 and is 4 now"):
            run(begun, seed=4)

    def test_other_data(self, tmp_path) -> None:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(40, 3)), np.arange(40) % 2
        np.savez(tmp_path / "d.npz", x=x, y=y)
        config = {
            **CONFIG,
            "data": {"source": str(tmp_path / "d.npz")},
            "analysis": {"inputs": 5, "n_draws": [2], "replicates": 2},
        }
        run(tmp_path / "store", config)
        x[3, 1] += 1e-12
        np.savez(tmp_path / "d.npz", x=x, y=y)
        with pytest.raises(ValueError, match=r"but data_sha256 was '[0-9a-f]{64}' and is '[0-9a-f]{64}' now"):
            run(tmp_path / "store", config)

    def test_another_network(self, begun, tmp_path) -> None:
        store = shutil.copytree(begun, tmp_path / "store")
        parameters = checkpoints.read(store, "network")
        parameters["parameters"][7] += 1e-9
        parameters.to_zarr(store, group="network", mode="w", zarr_format=2, consolidated=False)
        with pytest.raises(ValueError, match=r"but model was '[0-9a-f]+' and is '[0-9a-f]+' now"):
            run(store)

    def test_other_libraries(self, begun, monkeypatch) -> None:
        version = study.metadata.version
        monkeypatch.setattr(study.metadata, "version", lambda name: "0.1" if name == "scipy" else version(name))
        with pytest.raises(ValueError, match=r"but versions\.scipy was '[\d.]+' and is '0\.1' now"):
            run(begun)

    def test_changed_numbers(self, begun, tmp_path) -> None:
        store = shutil.copytree(begun, tmp_path / "store")
        exact = checkpoints.read(store, "exact")
        exact["information"][3] *= 1 + 1e-15
        exact.to_zarr(store, group="exact", mode="w", zarr_format=2, consolidated=False)
        with pytest.raises(
            ValueError, match=r"in which exact is damaged \(its numbers are not those that were written\); restore"
        ):
            run(store)

    @pytest.mark.parametrize("name", ["exact/information/.zarray", "bounds/upper/0.0", "sweep/variance/0.0.0", ".zattrs"])
    @pytest.mark.parametrize("damage", ["removed", "torn"])
    def test_damaged_files(self, begun, tmp_path, name, damage) -> None:
        store = shutil.copytree(begun, tmp_path / "store")
        file = store / name
        assert file.is_file()
        if damage == "removed":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(
            ValueError, match=r"`store` must (hold what the study wrote|be a new folder, or one that a study has made)"
        ):
            run(store)

    def test_foreign_folders(self, tmp_path, whole) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "thesis.tex").write_text("all of it")
        with pytest.raises(
            ValueError, match=r"`store` must be a new folder, or one that a study .* \(it holds thesis\.tex, and is no"
        ):
            run(tmp_path / "thesis")
        whole[0].to_zarr(tmp_path / "study.zarr", zarr_format=2)
        with pytest.raises(ValueError, match=r"`store` must be a new folder, or one that a study has made and can go on with"):
            run(tmp_path / "study.zarr")
        assert (tmp_path / "thesis" / "thesis.tex").read_text() == "all of it"

    def test_an_empty_folder_will_do(self, tmp_path, whole) -> None:
        (tmp_path / "store").mkdir()
        assert run(tmp_path / "store").identical(whole[0])

    def test_paths_that_will_not_do(self, tmp_path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(
            ValueError, match=r"`store` must be a folder, or a path where none is yet, got '.*file', which is a file"
        ):
            run(tmp_path / "file")
        with pytest.raises(TypeError, match=r"`store` must be the path of a folder, or None to keep nothing, got 3\."):
            run(3)  # type: ignore[arg-type]
        for store, out in (("a", "a"), ("a/b", "a"), ("a", "a/b")):
            with pytest.raises(ValueError, match="`store` must be apart from `out`"):
                run(tmp_path / store, out=tmp_path / out)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TestDisk:
    def test_no_room_for_a_piece(self, tmp_path, whole, monkeypatch) -> None:
        """The disk is full at one file after the other; what was written before is good."""
        store = tmp_path / "store"
        write = xr.Dataset.to_zarr
        room = 6

        def full(self: xr.Dataset, *arguments: Any, **more: Any) -> Any:
            nonlocal room
            room -= 1
            if room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(self, *arguments, **more)

        seen = set()
        for _ in range(20):
            room = 6
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(xr.Dataset, "to_zarr", full)
                try:
                    found = run(store)
                except OSError as error:
                    text = str(error)
                    assert "`store` must be a folder that can be written to" in text
                    assert "(No space left on device)" in text
                    seen.add(int(text.split("the ")[1].split(" of ")[0]))
                else:
                    break
        assert found.identical(whole[0])
        assert files(store) == files(whole[1])
        assert len(seen) >= 2

    @pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits of file sizes")
    def test_a_real_limit(self, tmp_path, whole) -> None:
        """Files may not exceed 1 kB, so that the network itself cannot be written: nothing is left, and the message says why."""
        program = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + PROGRAM.replace(
            "study.run(", "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\nstudy.run("
        )
        command = [sys.executable, "-c", program, json.dumps(CONFIG), "", str(tmp_path / "store"), "-1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        assert "(File too large): nothing was kept yet; make room or give permission" in done.stderr.splitlines()[-1]
        assert list(tmp_path.iterdir()) == []
        assert run(tmp_path / "store").identical(whole[0])

    def test_places_that_cannot_be_written_to(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match=r"`store` must be in a directory that can be written to, got '.*file/store'\."):
            run(tmp_path / "file" / "store")
        (tmp_path / "locked").mkdir(mode=0o500)
        # The administrator may write everywhere, so the system is made to say otherwise.
        monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path))
        with pytest.raises(ValueError, match=r"`store` must be in a directory that can be written to, got '.*locked/store'\."):
            run(tmp_path / "locked" / "store")

    def test_no_room_for_the_results(self, tmp_path, whole, monkeypatch) -> None:
        def full(*arguments: Any, **more: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(xr.DataTree, "to_netcdf", full)
            with pytest.raises(
                OSError, match=r"`out` must be .* \(No space left on device\): everything is computed and kept in"
            ):
                run(tmp_path / "store", out=tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["store"]
        assert run(tmp_path / "store", out=tmp_path / "out").identical(whole[0])


class TestCommandLine:
    @pytest.fixture
    def config(self, tmp_path) -> str:
        path = tmp_path / "config.toml"
        tables = [f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()) for name, table in CONFIG.items()]
        path.write_text("\n".join(tables))
        return str(path)

    def test_resume(self, tmp_path, config, whole, capsys) -> None:
        out = tmp_path / "out"
        part(tmp_path / "out.unfinished", 9)
        assert cli.main(["study", config, "--out", str(out)]) == 1
        shown = capsys.readouterr().err
        assert shown == (
            f"fisherstats: `--resume` must be given to go on with the unfinished study in '{out}.unfinished'; to start anew, "
            "remove that folder.\n"
        )
        assert cli.main(["study", config, "--out", str(out), "--resume", "--no-progress"]) == 0
        assert capsys.readouterr().out == f"The report is {out / 'report.html'}\n"
        with xr.open_datatree(out / "study.nc", engine="netcdf4") as opened:
            assert opened.load().identical(whole[0])
        before = files(out)
        assert cli.main(["study", config, "--out", str(out), "--resume"]) == 0
        assert capsys.readouterr().out == f"The study is complete; the report is {out / 'report.html'}\n"
        assert files(out) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "out"]

    def test_resume_with_nothing_to_resume_begins(self, tmp_path, config, capsys) -> None:
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--resume", "--no-progress"]) == 0
        assert (tmp_path / "out" / "report.html").is_file()

    def test_resume_of_another_study_is_refused(self, tmp_path, config, capsys) -> None:
        part(tmp_path / "out.unfinished", 2)
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--seed", "3", "--resume", "--no-progress"]) == 1
        assert "seed was 0 and is 3 now" in capsys.readouterr().err
