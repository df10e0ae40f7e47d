"""Configurations as nobody would write them: settings, or one sentence that begins with what is wrong."""

from __future__ import annotations

import datetime
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fisherstats import study
from fisherstats.study import report, setup

KEYS = {
    "": ("seed", "data", "model", "analysis"),
    "data": ("source", "x", "y", "header", "task"),
    "model": ("hidden", "activation", "epochs"),
    "analysis": ("inputs", "n_draws", "replicates", "target_standard_error"),
}
NUMBERS = "0 1 -1 3 2.5 -0.0 1e308 1e-308 nan -inf inf true false 9223372036854775807 9223372036854775808 0x7fffffff 0b101 1_000"
LISTS = '[] [1] [3,2] [1,4] [1,1] [0] [-3] [true] [1.0] ["4"] [[1]] [{}] [nan] [9223372036854775807] [1,[2]] {} {hidden=[3]}'
WORDS = '"" "digits" "DIGITS" "tanh" "relu" "regression" "count" "x.npz" "x.csv" "x.npy" "." "/" "/dev/null" "~" "~nobody/x.npz"'
OTHERS = r'"\u0000.npz" "\U0001F600.npz" "\u007f" "a\tb" 1979-05-27 07:32:00 1979-05-27T07:32:00Z {a={b={c=1}}}'
VALUES = [
    *f"{NUMBERS} {LISTS} {WORDS} {OTHERS}".split(),
    *("1" * 30, "1" * 400, "1" * 5000, f'"{"n" * 300}.npz"', "'''\n'''", "[" * 200 + "]" * 200),
]
TEXTS = [
    *("", "\ufeffseed = 1", "seed = 1\r\n", "seed = 1\rmodel = 2", "\0", "seed", "= 1", "seed = ", "[", "[]", "[[data]]"),
    *("[data]\n[data]", "seed = 1\nseed = 2", "[data.x]\n", "a.b.c = 1", "[model]\nhidden.a = 1", '"" = 1', '"seed" = 1'),
    *("'seed ' = 1", "ſeed = 1", "seed = " + "[" * 5000, "x = " + "{a = " * 3000, "[" + "a." * 3000 + "a]", "seed = 1 # \x01"),
    *("seed = '''", "[model]\n[[model]]"),
]


def refusal(config: Any, folder: Path) -> str:
    """Return the message of a refusal, nothing for settings whose data can be read."""
    try:
        settings = setup.read_settings(config)
        setup.load(settings)
    except (ValueError, TypeError) as error:
        return str(error)
    text = report._toml(settings.as_tables() | {"analysis": {}})
    assert tomllib.loads(text) == settings.as_tables() | {"analysis": {}}
    return ""


def check(message: str) -> None:
    if message:
        assert re.match(r"`[\w.\[\]-]*` (must|goes)|Exactly one of|The network|The array", message), message
        assert "\n" not in message


def test_odd_files(tmp_path, monkeypatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    dice = random.Random(0)
    path = tmp_path / "config.toml"
    outcomes = {True: 0, False: 0}
    for number in range(1500):
        lines = []
        for table in sorted(dice.sample(list(KEYS), dice.randrange(1, 3))):
            lines += [f"[{table}]"] if table else []
            for key in dice.sample(KEYS[table], dice.choice([1, 1, 2])):
                spelt = key if dice.random() < 0.95 else dice.choice(["Seed", "'a b'", '"\\u00e9"', key + "s"])
                lines.append(f"{spelt} = {dice.choice(VALUES)}")
        text = "\n".join(lines) if number >= len(TEXTS) else TEXTS[number]
        path.write_bytes(text.encode())
        message = refusal(path, tmp_path)
        check(message)
        outcomes[bool(message)] += 1
    assert min(outcomes.values()) > 20


def test_damaged_files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = b'seed = 3\n[data]\nx = "a.csv"\ny = "b.csv"\n[model]\nhidden = [4, 5]\n[analysis]\nn_draws = [1, 3]\n'
    dice = random.Random(1)
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 2, 6])):
            at = dice.randrange(len(data) + 1)
            match dice.randrange(3):
                case 0:
                    data[at:at] = dice.randbytes(dice.randrange(1, 3))
                case 1:
                    del data[at : at + dice.randrange(4)]
                case _:
                    data[at : at + 1] = dice.choice([b"[", b"]", b'"', b"\n", b"=", b"{", b"\xff", b"9" * 30])
        (tmp_path / "config.toml").write_bytes(data)
        message = refusal(tmp_path / "config.toml", tmp_path)
        assert message
        check(message)


@pytest.mark.parametrize(
    "config",
    [
        {1: 2},
        {"seed": None},
        {"seed": 2**200},
        {"seed": datetime.date(2020, 1, 1)},
        {"data": None},
        {"data": {"source": b"digits"}},
        {"data": {"source": "d\udcff.npz"}},
        {"data": {"source": Path("digits")}},
        {"model": {"hidden": {3: 4}}},
        {"model": {"hidden": "33"}},
        {"model": {"hidden": [10**9, 10**9]}},
        {"model": {"hidden": [2**62]}},
        {"model": {"activation": ["tanh"]}},
        {"model": {"activation": object()}},
        {"analysis": {"n_draws": range(0)}},
        {"analysis": {"n_draws": [2**62]}},
        {"analysis": {"replicates": 2**62}},
        {"analysis": {"target_standard_error": 1 + 2j}},
        {"analysis": {"target_standard_error": 10**400}},
    ],
)
def test_odd_mappings(config) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises((ValueError, TypeError)) as caught:
        study.run(config, out=None)
    check(str(caught.value))


def test_files_that_are_none(tmp_path) -> None:
    (tmp_path / "large.toml").write_bytes(b"#" * (2**20 + 1))
    (tmp_path / "bytes.toml").write_bytes("seed = 1".encode("utf-16"))
    for name in ("large.toml", "bytes.toml", "none.toml", ".", "x" * 300, "a\0b"):
        with pytest.raises(ValueError, match="`config` must be") as caught:
            setup.read_settings(tmp_path / name)
        check(str(caught.value))
    with pytest.raises(ValueError, match="at most 1,048,576 bytes"):
        setup.read_settings("/dev/zero")
    (tmp_path / "mark.toml").write_bytes(b"\xef\xbb\xbfseed = 5\r\n")
    assert setup.read_settings(tmp_path / "mark.toml").seed == 5


NAMES = ["\U0001f600.npz", 'a"b\\c.npz', "t\tn\nr\r\b\f\x01\x1f.npz", "\x7f\x80\x85\u2028\ufeff.npz", "'''\"\"\""]


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_in_the_report_can_be_read(name) -> None:
    tables = {"seed": 3, "data": {"source": name, "task": "count"}, "analysis": {"n_draws": [1, 2], "replicates": 1e-7}}
    assert tomllib.loads(report._toml(tables)) == tables
