"""What belongs to the user stays, whatever it is called and whenever it comes; and what was computed can always be found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from fisherstats import cli, study
from fisherstats.core import atomic_directory
from fisherstats.study import report, results_store, runner

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr"):
    pytest.importorskip(needed)

QUICK = {"model": {"hidden": [3], "epochs": 2}, "analysis": {"inputs": 4, "n_draws": [2], "replicates": 2}}
TOML = "[model]\nhidden = [3]\nepochs = 2\n[analysis]\ninputs = 4\nn_draws = [2]\nreplicates = 2\n"
NAMES = [".fisherstats", "report.html", "study.nc", "study.zarr"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of a study."""
    place = tmp_path_factory.mktemp("made") / "out"
    study.run(QUICK, out=place)
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def no_work(monkeypatch) -> None:
    """A refusal comes before any work."""

    def trained(*arguments: object) -> None:
        raise AssertionError("trained before it was refused")

    monkeypatch.setattr("fisherstats.study.setup._train", trained)


@pytest.fixture
def config(tmp_path) -> str:
    (tmp_path / "config.toml").write_text(TOML)
    return str(tmp_path / "config.toml")


class TestBefore:
    """Refused before anything is computed."""

    pytestmark = pytest.mark.usefixtures("no_work")

    def refused(self, out: Path, text: str) -> None:
        with pytest.raises(ValueError, match=text):
            study.run(QUICK, out=out)

    def test_a_report_of_his_own(self, tmp_path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report.html").write_text("my report")
        self.refused(tmp_path / "out", r"with 'report\.html' in it, which was not written by a study")
        assert (tmp_path / "out" / "report.html").read_text() == "my report"

    @pytest.mark.parametrize("name", ["study.zarr/thesis.tex", "study.zarr/exact/notes/a", "thesis.tex", "study.zarr/empty/"])
    def test_files_in_a_study(self, name, made, tmp_path) -> None:
        out = shutil.copytree(made, tmp_path / "out")
        if name.endswith("/"):
            (out / name).mkdir()
        else:
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text("all of it")
        before = contents(out)
        self.refused(out, f"with '{name.rstrip('/')}' in it")
        assert contents(out) == before

    def test_a_changed_report(self, made, tmp_path) -> None:
        out = shutil.copytree(made, tmp_path / "out")
        with (out / "report.html").open("a") as page:
            page.write("<!-- my notes -->")
        self.refused(out, r"with 'report\.html' in it, which was not written by a study or was changed since")

    def test_links(self, tmp_path) -> None:
        (tmp_path / "out").symlink_to(tmp_path / "nowhere")
        self.refused(tmp_path / "out", "`out` must not be a broken link")
        with pytest.raises(ValueError, match="`store` must not be a broken link"):
            study.run(QUICK, out=None, store=tmp_path / "out")
        (tmp_path / "loop").symlink_to("loop")
        self.refused(tmp_path / "loop", "`out` must")
        assert not (tmp_path / "nowhere").exists()

    @pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes only there")
    def test_names_that_are_no_text(self, tmp_path) -> None:
        out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
        self.refused(out, "`out` must be a path in UTF-8")
        with pytest.raises(ValueError, match="`store` must be a path in UTF-8"):
            study.run(QUICK, out=None, store=out)

    def test_names_that_no_system_has(self, tmp_path) -> None:
        self.refused(tmp_path / ("n" * 300), "`out` must be")
        with pytest.raises(ValueError, match="`out` must be"):
            study.run(QUICK, out="a\0b")

    def test_the_root_of_a_disk(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "disk").mkdir()
        monkeypatch.setattr(os.path, "ismount", lambda path: True)
        self.refused(tmp_path / "disk", "the root of a disk")

    def test_a_folder_in_the_place_of_the_unfinished_study(self, tmp_path, config, capsys) -> None:
        (tmp_path / "out.unfinished").mkdir()
        (tmp_path / "out.unfinished" / "thesis.tex").write_text("all of it")
        for more in ([], ["--resume"]):
            assert cli.main(["study", config, "--out", str(tmp_path / "out"), *more]) == 1
            assert "thesis.tex" in capsys.readouterr().err
        assert contents(tmp_path / "out.unfinished") == {"thesis.tex": b"all of it"}


@pytest.mark.validation
class TestWhileItRuns:
    def run(self, config: str, out: Path, monkeypatch: pytest.MonkeyPatch, then: object) -> int:
        """Make a study; when its figures are drawn something happens."""
        figures = runner._figures

        def drawn(tree: xr.DataTree) -> dict[str, str]:
            then()  # type: ignore[operator]
            return figures(tree)

        monkeypatch.setattr(runner, "_figures", drawn)
        return cli.main(["study", config, "--out", str(out), "--no-progress"])

    def test_a_file_comes_to_the_earlier_study(self, tmp_path, config, made, monkeypatch, capsys) -> None:
        out = shutil.copytree(made, tmp_path / "out")
        code = self.run(config, out, monkeypatch, lambda: (out / "study.zarr" / "thesis.tex").write_text("all of it"))
        assert code == 1
        said = capsys.readouterr().err
        assert "with 'study.zarr/thesis.tex' in it" in said
        assert f"Everything is computed, and kept in '{out}.unfinished'" in said
        assert {name: data for name, data in contents(out).items() if "thesis" not in name} == contents(made)
        (out / "study.zarr" / "thesis.tex").rename(tmp_path / "thesis.tex")
        monkeypatch.undo()
        assert cli.main(["study", config, "--out", str(out), "--no-progress", "--resume"]) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "out", "thesis.tex"]

    def test_a_file_comes_to_the_unfinished_study(self, tmp_path, config, monkeypatch, capsys) -> None:
        kept = tmp_path / "out.unfinished"

        def put() -> None:
            (kept / "exact" / "notes.txt").write_text("mine")
            (kept / "mine").mkdir()
            (kept / "mine" / "0.0").write_text("mine")
            (kept / "exact" / "information" / "half.partial").write_text("mine")

        assert self.run(config, tmp_path / "out", monkeypatch, put) == 0
        assert f"{kept} is no longer needed, but holds exact/information/half.partial" in capsys.readouterr().out
        assert sorted(contents(kept)) == ["exact/information/half.partial", "exact/notes.txt", "mine/0.0"]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == NAMES
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--resume"]) == 0
        assert "The study is complete" in capsys.readouterr().out

    def test_the_report_fails(self, tmp_path, config, monkeypatch, capsys) -> None:
        def fail(*arguments: object) -> None:
            raise ZeroDivisionError("in a figure")

        monkeypatch.setattr(report, "render", fail)
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--no-progress"]) == 1
        assert "(ZeroDivisionError: in a figure). Everything is computed, and kept in" in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "out.unfinished"]
        with pytest.raises(OSError, match="ZeroDivisionError") as caught:
            study.run(QUICK, out=tmp_path / "other")
        assert set(caught.value.tree.children) >= {"exact", "layers"}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("no_figures")
class TestPlaces:
    def test_from_within(self, tmp_path, config, made, monkeypatch) -> None:
        out = shutil.copytree(made, tmp_path / "d")
        monkeypatch.chdir(out)
        assert cli.main(["study", config, "--out", "../d", "--seed", "4", "--no-progress"]) == 0
        assert sorted(path.name for path in out.iterdir()) == NAMES
        assert contents(out) != contents(made)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "d"]

    def test_the_folder_itself(self, tmp_path, config, monkeypatch) -> None:
        (tmp_path / "d").mkdir()
        monkeypatch.chdir(tmp_path / "d")
        assert cli.main(["study", config, "--out", ".", "--no-progress"]) == 0
        assert sorted(path.name for path in (tmp_path / "d").iterdir()) == NAMES

    @pytest.mark.validation
    def test_links_to_other_disks(self, tmp_path, config, capsys) -> None:
        (tmp_path / "disk" / "results").mkdir(parents=True)
        (tmp_path / "disk" / "kept").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "disk" / "results")
        (tmp_path / "out.unfinished").symlink_to(tmp_path / "disk" / "kept")
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--no-progress"]) == 0
        assert capsys.readouterr().out == f"The report is {tmp_path / 'out' / 'report.html'}\n"
        assert sorted(path.name for path in (tmp_path / "disk" / "results").iterdir()) == NAMES
        assert contents(tmp_path / "disk" / "kept") == {}
        assert (tmp_path / "out").is_symlink()
        assert (tmp_path / "out.unfinished").is_symlink()
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--no-progress"]) == 0

    def test_neighbours(self, tmp_path, config) -> None:
        for name in (".out.partial", ".out.earlier"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "thesis.tex").write_text("all of it")
        (tmp_path / ".out.unfinished.lock").symlink_to(tmp_path / "nowhere")
        before = sorted(os.listdir(tmp_path))
        assert cli.main(["study", config, "--out", str(tmp_path / "out"), "--no-progress"]) == 0
        assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])
        assert (tmp_path / ".out.partial" / "thesis.tex").read_text() == "all of it"
        assert (tmp_path / ".out.unfinished.lock").is_symlink()

    def test_the_place_of_the_lock(self, tmp_path) -> None:
        with results_store.exclusive(tmp_path / "store"):
            (lock,) = tmp_path.iterdir()
        assert not lock.exists()
        lock.write_text("mine")
        with pytest.raises(ValueError, match=r"`store` must leave '.*' for its lock, got a file there that is not a lock"):
            study.run(QUICK, out=None, store=tmp_path / "store")
        assert lock.read_text() == "mine"
        lock.unlink()
        lock.symlink_to(tmp_path / "nowhere")
        with pytest.raises(OSError, match="`store` must be a folder that can be written to"):
            study.run(QUICK, out=None, store=tmp_path / "store")
        assert [path.name for path in tmp_path.iterdir()] == [lock.name]


def test_equal_studies_are_equal_files(made, tmp_path) -> None:
    """With a store and without."""
    study.run(QUICK, out=tmp_path / "stored", store=tmp_path / "store")
    assert contents(tmp_path / "stored") == contents(made)


@pytest.mark.validation
def test_another_process_writes_equal_files(made, tmp_path) -> None:
    """With another seed of hashes."""
    program = (
        f"from fisherstats import study; study.run({QUICK!r}, out={str(tmp_path / 'other')!r}, store={str(tmp_path / 's')!r})"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": "77"}, check=True, timeout=300)
    assert contents(tmp_path / "other") == contents(made)


@pytest.mark.validation
class TestMatplotlib:
    def test_settings_of_the_user_change_nothing(self, made, tmp_path) -> None:
        import matplotlib

        odd = {
            "text.usetex": True,
            "font.size": 30,
            "svg.fonttype": "none",
            "axes.formatter.use_locale": True,
            "lines.linewidth": 9,
        }
        with matplotlib.rc_context(odd | {"savefig.dpi": 7, "path.sketch": (1, 2, 3), "savefig.transparent": True}):
            study.run(QUICK, out=tmp_path / "out")
            assert matplotlib.rcParams["text.usetex"] is True
        assert contents(tmp_path / "out") == contents(made)

    @pytest.mark.parametrize(
        ("settings", "variables"),
        [
            ("text.usetex: True\nfont.size: 30\nbackend: nonsense\nno.such: 3\n", {}),
            (b"\xff\xfe: \x80", {}),
            ("", {"MPLBACKEND": "nonsense"}),
        ],
    )
    def test_files_of_the_user(self, settings, variables, tmp_path) -> None:
        (tmp_path / "matplotlibrc").write_bytes(settings if isinstance(settings, bytes) else settings.encode())
        program = (
            "from fisherstats.plotting import style\nwith style.report_style():\n    figure, (panel,) = style.new_figure(2)\n"
            "    panel.plot([1, 2], [3, 4])\n    panel.set_title('$x^2$')\nprint(style.as_svg(figure))"
        )

        def drawn(**more: str) -> bytes:
            environment = {**os.environ, **more}
            return subprocess.run(
                [sys.executable, "-c", program], env=environment, check=True, capture_output=True, timeout=120
            ).stdout

        assert drawn(MATPLOTLIBRC=str(tmp_path / "matplotlibrc"), **variables) == drawn() != b""


def test_marks_are_not_believed_blindly(made, tmp_path) -> None:
    """A copy of our mark beside files of the user protects them all the same."""
    (tmp_path / "out").mkdir()
    shutil.copy(made / atomic_directory.MARK, tmp_path / "out")
    (tmp_path / "out" / "study.nc").write_text("mine")
    with pytest.raises(ValueError, match=r"with 'study\.nc' in it"):
        study.run(QUICK, out=tmp_path / "out")
