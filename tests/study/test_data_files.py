"""The files that a study reads: what they hold, in the one way they can be read, or a refusal that names the place."""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fisherstats import study
from fisherstats.core.validation import data_files, tables
from fisherstats.study import setup

ROWS = [[0.5, -1.25], [1e-3, 4.0], [7.0, 2.5], [3.25, 1e10]]
TEXT = "0.5,-1.25\n1e-3,4\n7,2.5\n3.25,1e10\n"


def read(folder: Path, data: bytes | str, header: bool | None = None) -> tables.Table:
    path = folder / "x.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return tables.read("data.x", path, header)


class TestTables:
    @pytest.mark.parametrize(
        "data",
        [
            TEXT,
            TEXT.rstrip(),
            TEXT + "\n\n  \n",
            TEXT.replace("\n", "\r\n"),
            TEXT.replace("\n", "\r"),
            TEXT.replace(",", " , "),
            '"0.5","-1.25"\n1e-3,"4"\n7,2.5\n3.25,1e10\n',
            "+.5,-1.25\n0.001,4.\n7e0,2.5\n3.25,+1E+10",
            *(TEXT.encode(code) for code in ("utf-8-sig", "utf-16", "utf-32")),
            b"\xfe\xff" + TEXT.encode("utf-16-be"),
            b"\xff\xfe" + TEXT.replace("\n", "\r\n").encode("utf-16-le"),
        ],
    )
    def test_without_names(self, data, tmp_path) -> None:
        table = read(tmp_path, data)
        np.testing.assert_array_equal(table.values, ROWS)
        assert table.names is None

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            ("a,b", ("a", "b")),
            ("# a,b", ("# a", "b")),
            ("größe,_2", ("größe", "_2")),
            ('"a, or\nso","b"', ("a, or\nso", "b")),
            ("1st floor,b", ("1st floor", "b")),
            ("nation,none of it", ("nation", "none of it")),
        ],
    )
    @pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
    def test_with_names(self, names, found, code, tmp_path) -> None:
        table = read(tmp_path, f"{names}\n{TEXT}".encode(code))
        np.testing.assert_array_equal(table.values, ROWS)
        assert table.names == found

    @pytest.mark.parametrize(
        ("first", "reason"),
        [
            ("NA,NA", "has 'NA' in column 1, which stands for a missing value"),
            ("nan,nan", "has 'nan' in column 1, which stands for"),
            ("a,NULL", "has 'NULL' in column 2, which stands for"),
            ("?,?", r"has '\?' in column 1, which stands for"),
            ("1,NA", "has 'NA' in column 2"),
            ("a,2", "has 'a' in column 1, which is no number"),
            ("TRUE,FALSE", "has 'TRUE' in column 1"),
            ("\u200b0.5,\u200b2", r"has '\\u200b0.5' in column 1, which is no number"),
            ("\ufeff\ufeff0.5,-1.25", r"has '\\ufeff0.5' in column 1, which is no number"),
            ("1.5kg,2kg", "has '1.5kg' in column 1, which is no number"),
            ("1;2,3;4", "has '1;2' in column 1, which looks like cells that are not separated by commas"),
            ('"1,5","2,5"', "has '1,5' in column 1, with a decimal comma"),
            ("1,", "has an empty cell in column 2: it ends with a comma"),
            ("٤,٢", "has '٤' in column 1, which is no number"),
            ("1_0,1_1", "has '1_0' in column 1, which is no number"),
        ],
    )
    def test_a_first_line_of_two_readings(self, first, reason, tmp_path) -> None:
        with pytest.raises(ValueError, match=rf"whose first line can be names, or a row that {reason}.*set data.header = true"):
            read(tmp_path, f"{first}\n{TEXT}")
        with pytest.raises(ValueError, match=r"in which line 1 has "):
            read(tmp_path, f"{first}\n{TEXT}", header=False)
        if first.count(",") == 1:
            np.testing.assert_array_equal(read(tmp_path, f"{first}\n{TEXT}", header=True).values, ROWS)

    @pytest.mark.parametrize("first", ["0,1,2", "1,2,3"])
    def test_numbered_columns(self, first, tmp_path) -> None:
        text = f"{first}\n" + "4,5,6.5\n" * 3
        with pytest.raises(ValueError, match=r"whose first line \('\d,\d,\d'\) can be numbers of the columns, or a row; set"):
            read(tmp_path, text)
        assert len(read(tmp_path, text, header=True).values) == 3
        assert len(read(tmp_path, text, header=False).values) == 4

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "which is empty"),
            (" \n\n", "which is empty"),
            ("1,2\n\n3,4\n", "in which line 2 is blank: it can be a row whose values are missing, or nothing"),
            ("\n1,2\n3,4\n", "in which line 1 is blank"),
            ("1\n2\n \n3", "in which line 3 is blank"),
            ('"1"\n\n"2"\n', "in which line 2 is blank"),
            ("1,2\n3\n", "in which line 2 has 1 cells and the first line 2"),
            ("1,2\n3,4,5\n", "in which line 2 has 3 cells and the first line 2"),
            ("a,b,c\n1,2\n3,4\n", "in which line 2 has 2 cells and the first line 3"),
            ("a,b\n1,2,\n3,4,\n", "in which line 2 has 3 cells and the first line 2"),
            ("1,2,\n3,4,\n", "or a row that has an empty cell in column 3: it ends with a comma"),
            ("a,b,\n1,2,\n3,4,\n", "or a row that has an empty cell in column 3"),
            ("1,2\n3,NA\n", "in which line 2 has 'NA' in column 2, which stands for a missing value"),
            ("1,2\n3,\n", "in which line 2 has an empty cell in column 2: it ends with a comma"),
            ("1,2\n,3\n", "in which line 2 has an empty cell in column 1; give the number"),
            ("1,2\n3,inf\n", "in which line 2 has 'inf' in column 2, which is not finite"),
            ("1,2\n3,1e999\n", "in which line 2 has '1e999' in column 2, which is not finite"),
            ("1,2\n3,four\n", "in which line 2 has 'four' in column 2, which is no number"),
            ("1,2\n3,4#5\n", "in which line 2 has '4#5' in column 2, which is no number"),
            ("1,2\n#3,4\n", "in which line 2 has '#3' in column 1, which is no number"),
            ("1,2\n3,0x10\n", "in which line 2 has '0x10' in column 2"),
            ("1,2\n3,−4\n", "in which line 2 has '−4' in column 2, which is no number"),
            ("a,b\nkg,m\n1,2\n", "in which line 2 has 'kg' in column 1, which is no number"),
            ("a;b\n1;2\n", "in which line 2 has '1;2' in column 1, which looks like cells that are not separated by commas"),
            ("a;b\n1,5;2,5\n", "in which line 2 has '5;2' in column 2, which looks like"),
            ("a\tb\n1\t2\n", "in which line 2 has '1\\t2' in column 1, which looks like"),
            ('a\n"1,5"\n', "in which line 2 has '1,5' in column 1, with a decimal comma"),
            ("1,5\n2,05\n", "in which line 2 ('2,05') can be 2 whole numbers, or 1 with decimal commas"),
            ("-0,5\n2,5\n", "in which line 1 ('-0,5') can be 2 whole numbers, or 1 with decimal commas"),
            (",a,b\n0,1,2.5\n", "in which the first column has no name, as that of row numbers in files of pandas and R"),
            ('"","a"\n"1",2.5\n', "in which the first column has no name"),
            ('1,"2\n3,4\n', "whose quotes do not match from line 1 on"),
            ('1,2\n"3"x,4\n', "whose quotes do not match from line 2 on"),
            ("1,2\n3,\0004\n", "which has a NUL character in line 2"),
            (
                TEXT.encode("utf-16-le"),
                "which has a NUL character in line 1: it is not text, or is UTF-16 without a byte order mark",
            ),
            ("größe\n1\n".encode("latin-1"), "which is no text in UTF-8: byte 0xf6 in line 1"),
            (b"1\n2\n\x80\n", "which is no text in UTF-8: byte 0x80 in line 3"),
        ],
    )
    def test_refusals_name_the_place(self, text, reason, tmp_path) -> None:
        with pytest.raises(ValueError, match=r"^`data\.x` must be a .*, got '.*x\.csv', ") as caught:
            read(tmp_path, text)
        assert reason in str(caught.value).replace("\\\\", "\\")

    def test_both_ways_of_reading_agree(self, tmp_path) -> None:
        rng = np.random.default_rng(0)
        values = rng.normal(size=(200, 7)) * 10.0 ** rng.integers(-300, 300, (200, 7))
        lines = [",".join(map(repr, row)) for row in values.tolist()]
        np.testing.assert_array_equal(read(tmp_path, "\n".join(lines)).values, values)
        quoted = [",".join(f'"{cell!r}"' for cell in row) for row in values.tolist()]
        np.testing.assert_array_equal(read(tmp_path, "\n".join(quoted)).values, values)


class TestTargets:
    """A target may not be among its own features."""

    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(int)

    def load(self, folder: Path, x: str, y: str, **more: Any) -> setup.Data:
        settings = setup.read_settings({"data": {"x": str(folder / x), "y": str(folder / y), **more}})
        return setup.load(settings)

    @pytest.fixture
    def table(self, tmp_path) -> Path:
        np.savetxt(tmp_path / "d.csv", np.column_stack([self.x, self.y]), delimiter=",")
        return tmp_path

    def test_one_file_under_many_names(self, table, monkeypatch) -> None:
        (table / "soft.csv").symlink_to("d.csv")
        os.link(table / "d.csv", table / "hard.csv")
        (table / "sub").mkdir()
        for other in ("d.csv", "soft.csv", "hard.csv", "sub/../d.csv", "./d.csv"):
            with pytest.raises(ValueError, match=r"`data\.y` must be a different file from `data\.x`.*among its own features"):
                self.load(table, "d.csv", other, task="regression")

    def test_a_copy_and_a_column(self, table) -> None:
        (table / "copy.csv").write_bytes((table / "d.csv").read_bytes())
        for other, text in (
            ("copy.csv", "column 0 of y equal to column 0 of x"),
            ("y.csv", "column 0 of y equal to column 3 of x"),
        ):
            np.savetxt(table / "y.csv", self.y)
            with pytest.raises(ValueError, match=text):
                self.load(table, "d.csv", other, task="regression")

    def test_a_name(self, tmp_path) -> None:
        np.savetxt(tmp_path / "x.csv", self.x, delimiter=",", header="a,b,price", comments="")
        np.savetxt(tmp_path / "y.csv", self.y, header="price", comments="")
        with pytest.raises(ValueError, match=r"got 'price' \(column 0\) in both: the target would be among its own features"):
            self.load(tmp_path, "x.csv", "y.csv")

    def test_arrays(self, tmp_path) -> None:
        np.savez(tmp_path / "d.npz", x=self.x.astype(np.float32), y=self.x[:, 1])
        with pytest.raises(ValueError, match="column 0 of y equal to column 1 of x"):
            setup.load(setup.read_settings({"data": {"source": str(tmp_path / "d.npz"), "task": "regression"}}))
        np.savez(tmp_path / "d.npz", x=self.x, y=self.y)
        assert self.load(tmp_path, "d.npz", "d.npz").x.shape == (40, 3)
        np.save(tmp_path / "x.npy", self.x)
        with pytest.raises(ValueError, match="must be a different file"):
            self.load(tmp_path, "x.npy", "x.npy", task="regression")

    def test_a_mark_of_a_spreadsheet_loses_no_row(self, tmp_path) -> None:
        for name, values in (("x.csv", self.x), ("y.csv", self.y)):
            text = io.StringIO()
            np.savetxt(text, values, delimiter=",", fmt="%.17g")
            (tmp_path / name).write_text(text.getvalue(), encoding="utf-8-sig")
        found = self.load(tmp_path, "x.csv", "y.csv")
        np.testing.assert_array_equal(found.x, self.x)
        np.testing.assert_array_equal(found.y, self.y)

    def test_names_in_one_file_only(self, tmp_path) -> None:
        np.savetxt(tmp_path / "x.csv", self.x, delimiter=",", header="a,b,c", comments="")
        np.savetxt(tmp_path / "y.csv", self.y, fmt="%d")
        assert self.load(tmp_path, "x.csv", "y.csv").x.shape == (40, 3)
        np.savetxt(tmp_path / "y.csv", self.y, fmt="%d", header="0", comments="")
        with pytest.raises(ValueError, match=r"the first line of x was read as names, that of y as numbers: data\.header = true"):
            self.load(tmp_path, "x.csv", "y.csv")
        assert self.load(tmp_path, "x.csv", "y.csv", header=True).x.shape == (40, 3)

    def test_classes_that_float64_cannot_tell_apart(self, tmp_path) -> None:
        for labels in (2**53 + np.arange(40) % 2, np.uint64(2**63) + np.arange(40, dtype=np.uint64) % 2):
            np.savez(tmp_path / "d.npz", x=self.x, y=labels)
            with pytest.raises(ValueError, match=r"`y` must hold whole numbers below 2\*\*53"):
                setup.load(setup.read_settings({"data": {"source": str(tmp_path / "d.npz")}}))

    @pytest.mark.parametrize(
        "data", [{"header": True}, {"source": "d.npz", "header": False}, {"x": "a.npy", "y": "b.npy", "header": True}]
    )
    def test_a_header_without_a_table(self, data) -> None:
        with pytest.raises(ValueError, match=r"`data\.header` goes with \.csv files only"):
            setup.read_settings({"data": {**data, "header": True}})
        with pytest.raises(ValueError, match=r"`data\.header` must be True or False, got 'no'"):
            setup.read_settings({"data": {"x": "a.csv", "y": "b.csv", "header": "no"}})


def saved(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


class TestDamage:
    """Whatever a file holds: the array, or one sentence."""

    def expect(self, folder: Path, name: str, data: bytes, reason: str = "") -> str:
        (folder / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"^`data\.x` must be a readable file of numbers, got .*{reason}") as caught:
            data_files.read("data.x", name, folder, "x")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "it is empty"),
            (b"\x93NUMPY", ""),
            (b"no numbers at all", ""),
            (header(f"({10**15},)"), ""),
            (header(f"({10**19},)"), ""),
            (header(f"({10**30}, 0)"), ""),
            (header("(-3,)"), ""),
            (header("(2,)") + b"1234567", ""),
            (header("(1,)") + bytes(17), r"9 bytes follow its array, as when two arrays are saved to one file"),
            (header("(" * 150 + ")" * 150), ""),
            (header("(2,)", "'|O'") + b"\x80\x04N.", ""),
            (saved(x=np.ones(3)), ""),
        ],
    )
    def test_npy(self, data, reason, tmp_path) -> None:
        self.expect(tmp_path, "x.npy", data, rf"x\.npy' \({reason}")

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "BadZipFile"),
            (b"PK\x03\x04" + bytes(40), "BadZipFile"),
            (saved(z=np.ones(3)), "it holds z, and no array named x"),
            (saved(x=np.ones(300))[:-40], "BadZipFile"),
            (header("(1,)") + bytes(8), "BadZipFile"),
        ],
    )
    def test_npz(self, data, reason, tmp_path) -> None:
        self.expect(tmp_path, "x.npz", data, reason)

    def test_two_arrays_of_one_name(self, tmp_path) -> None:
        with zipfile.ZipFile(tmp_path / "two.npz", "w") as archive:
            archive.writestr("x.npy", header("(1,)") + np.float64(1).tobytes())
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("x.npy", header("(1,)") + np.float64(2).tobytes())
        self.expect(tmp_path, "x.npz", (tmp_path / "two.npz").read_bytes(), "it holds 2 arrays named x")

    def test_a_member_that_would_fill_the_memory(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("fisherstats.core.validation.capacity.available_bytes", lambda needed=0: 4000)
        self.expect(tmp_path, "x.npz", saved(x=np.zeros(300)), "The array x of an .npz file needs 2,528 bytes")

    @pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv"])
    def test_random_damage(self, name, tmp_path) -> None:
        """Bits, lengths and pieces are changed; what is read nevertheless is an array of numbers."""
        values = np.random.default_rng(2).normal(size=(12, 3))
        stream = io.BytesIO()
        if name == "x.csv":
            np.savetxt(stream, values, delimiter=",", header="a,b,c", comments="")
        else:
            (np.save if name == "x.npy" else lambda file, x: np.savez_compressed(file, x=x))(stream, values)
        whole, dice = stream.getvalue(), random.Random(3)
        for _ in range(400):
            data = bytearray(whole)
            for _ in range(dice.choice([1, 1, 2, 5])):
                at = dice.randrange(len(data))
                kind = dice.randrange(4)
                if kind == 0:
                    data[at] ^= 1 << dice.randrange(8)
                elif kind == 1:
                    del data[at : at + dice.randrange(1, 20)]
                elif kind == 2:
                    data[at:at] = dice.randbytes(3)
                elif len(data) > 30:
                    del data[at:]
                if not data:
                    data = bytearray(b"0")
            (tmp_path / name).write_bytes(data)
            try:
                found = data_files.read("data.x", name, tmp_path, "x").values
            except ValueError as error:
                refused = str(error)
            else:
                refused = "`data.x` must be"
                assert isinstance(found, np.ndarray)
                if name == "x.npz":
                    np.testing.assert_array_equal(found, values)
            assert refused.startswith("`data.x` must be")
            assert "\n" not in refused

    def test_paths(self, tmp_path) -> None:
        (tmp_path / "d.npz").mkdir()
        (tmp_path / "loop.npz").symlink_to("loop.npz")
        os.mkfifo(tmp_path / "pipe.npz")
        for name, reason in (
            ("none.npz", "which does not exist"),
            ("d.npz", "which is no file"),
            ("loop.npz", "which is no file"),
            ("pipe.npz", "which is no file"),
            ("\0.npz", "must be an existing file"),
            ("n" * 300 + ".npz", "must be an existing file"),
        ):
            with pytest.raises(ValueError, match=rf"`data\.x` must be an existing file, got .*{reason}|{reason}"):
                data_files.read("data.x", name, tmp_path, "x")


def test_a_whole_study_of_tables(tmp_path) -> None:
    """With a mark and without, with names and without: the same study."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(int)
    small = {"model": {"hidden": [3], "epochs": 2}, "analysis": {"inputs": 5, "n_draws": [2], "replicates": 2}}
    found = []
    for encoding, names in (("utf-8", ""), ("utf-8-sig", ""), ("utf-16", "a,b,c"), ("utf-8-sig", "a,b,c")):
        for file, values, header in (("x.csv", x, names), ("y.csv", y, names and "target")):
            text = io.StringIO()
            np.savetxt(text, values, delimiter=",", fmt="%.17g", header=header, comments="")
            written = text.getvalue() if header else text.getvalue().lstrip("\n")
            (tmp_path / file).write_text(written, encoding=encoding)
        found.append(study.run({"data": {"x": str(tmp_path / "x.csv"), "y": str(tmp_path / "y.csv")}, **small}, out=None))
    assert all(one.identical(found[0]) for one in found)
