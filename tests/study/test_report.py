"""The report: what it says, that it stands alone, and that a real browser shows it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fisherstats import plotting, study
from fisherstats.study import report, runner

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr"):
    pytest.importorskip(needed)

CONFIG = {
    "model": {"hidden": [6, 5], "epochs": 8},
    "analysis": {"inputs": 24, "n_draws": [1, 8, 64], "replicates": 30},
}


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return study.run(CONFIG, out=None)


@pytest.fixture(scope="module")
def page(tree) -> str:
    return report.render(tree, runner._figures(tree))


class Page(HTMLParser):
    """Collects the tags of a page, checks that they nest, and keeps the cells of its tables."""

    VOID = ("meta", "link", "img", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.rows and self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if "style" not in self.open:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def parsed(page) -> Page:
    return Page(page)


class TestStandsAlone:
    def test_every_address_is_inside_the_file(self, parsed):
        addresses = [attrs[key] for _, attrs in parsed.tags for key in ("src", "href", "srcset", "data") if key in attrs]
        assert len(addresses) == 6
        assert all(address.startswith("data:") for address in addresses)

    def test_nothing_is_fetched_by_style_or_script(self, page, parsed):
        assert parsed.all("script") == []
        assert re.findall(r"@import|url\(", page) == []

    def test_figures_fetch_nothing_either(self, parsed):
        for image in parsed.all("img"):
            svg = base64.b64decode(image["src"].split(",")[1]).decode()
            assert set(re.findall(r'xlink:href="([^"])', svg)) <= {"#"}
            assert "<script" not in svg

    def test_size(self, page):
        assert len(page) < 600_000

    def test_equal_trees_give_equal_pages(self, tree, page):
        assert report.render(tree, runner._figures(tree)) == page


class TestAccessible:
    def test_language_viewport_and_one_title(self, parsed):
        assert parsed.all("html")[0]["lang"] == "en"
        assert any(meta.get("name") == "viewport" for meta in parsed.all("meta"))
        assert len(parsed.all("h1")) == 1

    def test_every_figure_says_in_words_what_it_shows(self, parsed):
        texts = [image["alt"] for image in parsed.all("img")]
        assert len(texts) == 5
        assert all(len(text) > 60 and re.search(r"\d", text) for text in texts)

    def test_tables_have_captions_and_headers_with_a_scope(self, parsed):
        assert len(parsed.all("caption")) == len(parsed.all("table")) == 3
        assert all("scope" in header for header in parsed.all("th"))


class TestContent:
    def test_the_first_sentences_answer_the_question(self, parsed, tree):
        text = " ".join(parsed.text.split())
        layers = tree["layers"].to_dataset()
        best = layers.draws_for_median.min("estimator").max()
        assert "How well do I know this Fisher matrix?" in text
        assert f"{int(best):,} draws per input bring the median parameter of every layer to 10 %" in text
        assert "over 30 replicates" in text

    def test_the_table_repeats_the_tree(self, parsed, tree):
        layers = tree["layers"].to_dataset()
        rows = [row for row in parsed.rows if row and row[0] in ("median parameter", "mean entry")]
        assert len(rows) == 6
        for number, row in enumerate(rows):
            name = "draws_for_median" if row[0] == "median parameter" else "draws_for_mean"
            error = "median_relative_error" if row[0] == "median parameter" else "mean_relative_error"
            draws = layers[name].isel(layer=number // 2).values
            assert row[1:3] == [f"{count:,.0f}" for count in draws]
            best = ("Score", "Hessian")[int(np.argmin(layers[error].isel(layer=number // 2).values))]
            assert row[3].strip().startswith(best)
        assert "exact at 1 draw" in rows[-1][3]

    def test_definitions_sources_and_provenance(self, parsed, tree):
        text = " ".join(parsed.text.split())
        provenance = json.loads(tree.attrs["provenance"])
        for expected in (
            "Score estimator",
            "Hessian estimator",
            "Lemma 3.1",
            "Theorem 4.1",
            "arXiv:2107.04205",
            "arXiv:2402.05379",
            "twice differentiable",
            provenance["model"],
            provenance["data_sha256"],
            "hidden = [6, 5]",
        ):
            assert expected in text

    def test_the_configuration_repeats_the_study(self, page, tree, tmp_path):
        import html
        import tomllib

        text = html.unescape(re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)[1])
        assert study.run(tomllib.loads(text), out=None).identical(tree)

    def test_names_of_files_are_escaped(self, tree):
        attrs = json.loads(tree.attrs["provenance"]) | {"data": "<script>alert(1)</script>"}
        renamed = tree.copy()
        renamed.attrs = {"provenance": json.dumps(attrs)}
        assert "<script>" not in report.render(renamed, runner._figures(tree))

    def test_a_missing_figure_is_named(self, tree):
        with pytest.raises(ValueError, match="`figures` must hold the figure 'standard_error' of the report"):
            report.render(tree, {})

    def test_a_network_without_noise_or_without_information(self, tree):
        """relu: the Hessian estimator is exact everywhere; and a layer whose information is 0 has no relative error."""
        silent = tree.copy(deep=True)
        for node in ("layers", "variance", "exact", "bounds"):
            for variable in silent[node].data_vars.values():
                if variable.dtype.kind == "f" and variable.name not in ("expected_ratio",):
                    variable.values[...] = 0.0
        for name in ("draws_for_mean", "draws_for_median", "mean_relative_error", "median_relative_error"):
            silent["layers"][name].values[...] = np.nan
        silent["variance/relative_error"].values[...] = np.nan
        Page(report.render(silent, runner._figures(silent)))
        exact = study.run({**CONFIG, "model": {"hidden": [4], "epochs": 2, "activation": "relu"}}, out=None)
        text = " ".join(Page(report.render(exact, runner._figures(exact))).text.split())
        assert "Hessian in layers 0 and 1" in text


class TestFigures:
    def test_style_of_the_caller_is_left_alone(self, tree):
        import matplotlib

        before = matplotlib.rcParams.copy()
        plotting.information_by_layer(tree["exact"]["information"])
        assert matplotlib.rcParams == before

    def test_lines_and_marks_are_the_numbers(self, tree):
        layers = tree["layers"].to_dataset()
        figure = plotting.standard_error_by_draws(layers)
        score = figure.axes[0]
        line = next(line for line in score.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3)
        first = layers.isel(layer=0).sel(estimator="score")
        np.testing.assert_allclose(line.get_ydata(), first.standard_error / first.information)
        np.testing.assert_allclose(score.containers[0].lines[0].get_ydata(), first.observed_standard_error / first.information)
        assert [text.get_text() for text in figure.axes[1].texts if "exactly" in text.get_text()] == ["layer 2: exactly 0"]

    def test_boxes_hold_the_middle_half(self, tree):
        error = tree["variance"]["relative_error"]
        axes = plotting.relative_error_by_layer(error).axes[0]
        values = error.sel(estimator="score").values[error.param_layer.values == 0]
        expected = np.percentile(values[np.isfinite(values) & (values > 0)], [25, 75])
        corners = axes.patches[0].get_path().vertices[:, 0]
        np.testing.assert_allclose([corners.min(), corners.max()], expected)


PROBE = """<script>
window.problems = [];
addEventListener("error", event => problems.push(String(event.message || event.target.src)), true);
addEventListener("securitypolicyviolation", event => problems.push("blocked " + event.blockedURI));
addEventListener("load", () => {
  const shown = [...document.images].map(image => [image.complete, image.naturalWidth, image.clientWidth]);
  const fetched = performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !name.startsWith("data:"));
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.title = "PROBE" + JSON.stringify({shown, fetched, wide, problems});
});
</script>"""
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)


class TestBrowser:
    """A headless Chromium opens the page with everything from outside forbidden, and tells what it saw."""

    @pytest.fixture(scope="class")
    @classmethod
    def chromium(cls) -> str:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        found = next((path for path in map(shutil.which, names) if path), None)
        if found is None:
            pytest.skip("no Chromium on this machine to open the report with")
        return found

    def look(self, chromium: str, page: str, width: int) -> tuple[dict, str]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "report.html"
            path.write_text(page, encoding="utf-8")
            done = subprocess.run(
                [
                    chromium,
                    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                    *("--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={folder}/profile"),
                    *(f"--window-size={width},900", "--virtual-time-budget=5000", "--dump-dom", path.as_uri()),
                ],
                capture_output=True,
                text=True,
                timeout=120,
            )
        found = re.search(r"<title>PROBE(.*?)</title>", done.stdout, re.DOTALL)
        assert found, done.stderr[-2000:]
        console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
        return json.loads(found[1].replace("&amp;", "&")), console

    @pytest.mark.parametrize("width", [500, 1200])
    def test_the_report_is_shown(self, chromium, page, width):
        seen, console = self.look(chromium, page.replace("<head>", f"<head>{POLICY}{PROBE}", 1), width)
        assert len(seen["shown"]) == 5
        assert all(complete and natural > 100 and shown > 100 for complete, natural, shown in seen["shown"])
        assert seen["fetched"] == []
        assert seen["problems"] == []
        assert seen["wide"] <= 0
        assert console == ""

    def test_the_probe_sees_a_broken_page(self, chromium, page):
        broken = page.replace("<h1>", '<img src="https://example.invalid/x.png"><script>nothing.here()</script><h1>', 1)
        seen, console = self.look(chromium, broken.replace("<head>", f"<head>{POLICY}{PROBE}", 1), 800)
        assert any("blocked https://example.invalid" in problem for problem in seen["problems"])
        assert any("nothing is not defined" in problem for problem in seen["problems"])
        assert not all(natural > 100 for _, natural, _ in seen["shown"])
        assert "nothing is not defined" in console
