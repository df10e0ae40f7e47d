"""The store of a study: refusals that say what has changed, full disks, and the command line."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fisherstats import cli
from fisherstats.study import results_store, runner

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr", "dask"):
    pytest.importorskip(needed)

from tests.study.resuming import CONFIG, PROGRAM, command, files, part, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("small_groups")


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """The store of a study that has ended early."""
    return part(tmp_path_factory.mktemp("begun") / "store", 5)


class TestRefusals:
    def changed(self, **tables: Any) -> dict[str, Any]:
        return {key: {**CONFIG.get(key, {}), **tables.get(key, {})} for key in CONFIG.keys() | tables.keys()}

    @pytest.mark.parametrize(
        ("tables", "message"),
        [
            (
                {"analysis": {"replicates": 8}},
                r"analysis\.replicates was 6 and is 8 now\. Restore the earlier settings, give another",
            ),
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
        parameters = results_store.read(store, "network")
        parameters["parameters"][7] += 1e-9
        parameters.to_zarr(store, group="network", mode="w", zarr_format=2, consolidated=False)
        with pytest.raises(ValueError, match=r"but model was '[0-9a-f]+' and is '[0-9a-f]+' now"):
            run(store)

    def test_other_libraries(self, begun, monkeypatch) -> None:
        version = runner.metadata.version
        monkeypatch.setattr(runner.metadata, "version", lambda name: "0.1" if name == "scipy" else version(name))
        with pytest.raises(ValueError, match=r"but versions\.scipy was '[\d.]+' and is '0\.1' now"):
            run(begun)

    def test_changed_numbers(self, begun, tmp_path) -> None:
        store = shutil.copytree(begun, tmp_path / "store")
        exact = results_store.read(store, "exact")
        exact["information"][3] *= 1 + 1e-15
        exact.to_zarr(store, group="exact", mode="w", zarr_format=2, consolidated=False)
        with pytest.raises(ValueError, match=r"in which exact is damaged \(its content differs from what was written\); restore"):
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
        with pytest.raises(ValueError, match=r"`store` must (hold what the study wrote|be a new folder, or that of a study)"):
            run(store)

    def test_foreign_folders(self, tmp_path, whole) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "thesis.tex").write_text("all of it")
        with pytest.raises(
            ValueError, match=r"`store` must be a new folder, or that of a study .* \(it contains thesis\.tex and is not"
        ):
            run(tmp_path / "thesis")
        whole[0].to_zarr(tmp_path / "study.zarr", zarr_format=2)
        with pytest.raises(ValueError, match=r"`store` must be a new folder, or that of a study that can be resumed"):
            run(tmp_path / "study.zarr")
        assert (tmp_path / "thesis" / "thesis.tex").read_text() == "all of it"

    def test_an_empty_folder_will_do(self, tmp_path, whole) -> None:
        (tmp_path / "store").mkdir()
        assert run(tmp_path / "store").identical(whole[0])

    def test_a_link_to_another_disk(self, tmp_path, whole) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "store").symlink_to(tmp_path / "disk", target_is_directory=True)
        part(tmp_path / "store", 3)
        assert run(tmp_path / "disk").identical(whole[0])
        assert (tmp_path / "store").is_symlink()
        assert files(tmp_path / "store") == files(whole[1])
        with pytest.raises(ValueError, match="`store` must be separate from `out`"):
            run(tmp_path / "store", out=tmp_path / "disk")

    def test_paths_that_will_not_do(self, tmp_path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(
            ValueError, match=r"`store` must be a folder, or a path that does not exist, got '.*file', which is a file"
        ):
            run(tmp_path / "file")
        with pytest.raises(TypeError, match=r"`store` must be the path of a folder, or None to keep nothing, got 3\."):
            run(3)  # type: ignore[arg-type]
        for store, out in (("a", "a"), ("a/b", "a"), ("a", "a/b")):
            with pytest.raises(ValueError, match="`store` must be separate from `out`"):
                run(tmp_path / store, out=tmp_path / out)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("no_figures")
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
        done = subprocess.run(command(tmp_path / "store", program=program), capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        assert "(File too large): nothing was kept yet; make room or give permission" in done.stderr.splitlines()[-1]
        assert list(tmp_path.iterdir()) == []
        assert run(tmp_path / "store").identical(whole[0])

    def test_places_that_cannot_be_written_to(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match=r"`store` must be in a writeable directory, got '.*file/store'\."):
            run(tmp_path / "file" / "store")
        (tmp_path / "locked").mkdir(mode=0o500)
        # The administrator may write everywhere, so the system is made to say otherwise.
        monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path))
        with pytest.raises(ValueError, match=r"`store` must be in a writeable directory, got '.*locked/store'\."):
            run(tmp_path / "locked" / "store")

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), r"No space left on device"),
            (RuntimeError("NetCDF: HDF error"), r"NetCDF: HDF error; [\d.]+ MiB are free there"),
        ],
    )
    def test_no_room_for_the_results(self, tmp_path, whole, error, reason) -> None:
        def full(*arguments: Any, **more: Any) -> None:
            raise error

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(xr.DataTree, "to_netcdf", full)
            with pytest.raises(
                OSError, match=rf"`out` must be .* \({reason}\)\. Everything is computed, and kept in '.*store', from"
            ):
                run(tmp_path / "store", out=tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["store"]
        assert run(tmp_path / "store", out=tmp_path / "out").identical(whole[0])


@pytest.mark.usefixtures("no_figures")
class TestCommandLine:
    def test_resume(self, tmp_path, config, whole, capsys) -> None:
        out = tmp_path / "out"
        part(tmp_path / "out.unfinished", 9)
        assert cli.main(["study", config, "--out", str(out)]) == 1
        shown = capsys.readouterr().err
        assert shown == (
            f"fisherstats: `--resume` must be given to resume the unfinished study in '{out}.unfinished'; to start again, remove "
            "that folder.\n"
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
