import base64
import re
from html.parser import HTMLParser

import fake_run
import polars as pl
import pytest

from radlearn.errors import ConfigurationError, DataError
from radlearn.figures import example_cases
from radlearn.report import page


class Reader(HTMLParser):
    """Tags with their attributes, ids, and the text that is seen."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._skip = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._skip += tag == "style"

    def handle_endtag(self, tag):
        self._skip -= tag == "style"

    def handle_data(self, data):
        if not self._skip:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(path):
    return Reader(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def html(written):
    return (written / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def seen(html):
    return Reader(html)


def test_the_page_asks_no_other_machine_for_anything(html, seen):
    assert not {tag for tag, _ in seen.tags} & {"script", "iframe", "object", "embed", "link", "base", "form"}
    for _, attributes in seen.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "srcset", "action", "poster"}:
                assert value.startswith(("data:image/png;base64,", "#"))
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in html


def test_links_of_the_contents_lead_somewhere_and_ids_are_unique(seen):
    identities = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = [attributes["href"][1:] for attributes in seen.all("a")]
    assert len(targets) >= 10
    assert set(targets) <= set(identities)


def test_every_picture_is_whole_described_and_captioned(html, seen):
    pictures = seen.all("img")
    assert len(pictures) == 6
    for attributes in pictures:
        assert len(attributes["alt"]) > 20
        assert base64.b64decode(attributes["src"].partition(",")[2]).startswith(b"\x89PNG")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    assert len(captions) == 6
    assert all(re.search(r"interval|n = |\d+ radiographs", caption) for caption in captions)


def test_the_headline_says_what_was_trained_on_what_with_which_text_model(seen):
    assert (
        "Method nova with the image encoder small_cnn, trained on phantom_cxr (synthetic data)" in seen.text
    )
    assert "text model: all-MiniLM-L6-v2" in seen.text
    assert "Synthetic data. The images and reports of phantom_cxr are generated." in seen.text


def test_the_table_shows_every_number_with_interval_chance_and_counts(run, seen):
    rows = page.read(run).results
    zero_shot = rows.filter((pl.col("task") == "zero_shot") & (pl.col("metric") == "auc"))
    for row in zero_shot.iter_rows(named=True):
        assert f"{row['value']:.3f} {row['low']:.3f}–{row['high']:.3f}" in seen.text
    cardiomegaly = zero_shot.filter((pl.col("label") == "cardiomegaly") & (pl.col("variant") == ""))
    assert f"{cardiomegaly['num_positive'][0]} / 400" in seen.text
    for heading in (
        "Negative prompt “No X”",
        "Untrained network",
        "Pixel probe",
        "Average precision",
        "chance",
    ):
        assert heading in seen.text
    assert "Mean without nodule and devices" in seen.text


def test_card_budget_versions_configuration_and_command_are_there(seen):
    for words in ("by patient, seed 0, 75 / 5 / 20", "5f1c2a90", "1,200", "32,000", "torch 2.6.0"):
        assert words in seen.text
    assert "radlearn pretrain --config-dir runs/nova_phantom --config-name config" in seen.text
    assert "lambda_sigreg: 0.05" in seen.text
    assert seen.all("details")


def test_keys_and_passwords_of_the_configuration_are_hidden(written):
    for path in written.rglob("*.*"):
        assert b"s3cr3t-value" not in path.read_bytes()
    assert "wandb_api_key: (hidden)" in read(written / "index.html").text


def test_no_id_of_a_case_is_in_any_file(written):
    for path in written.rglob("*.*"):
        assert b"secret_image" not in path.read_bytes()
        assert b"secret_patient" not in path.read_bytes()


def test_tables_and_figures_lie_beside_the_page(run, written):
    names = {path.name for path in written.iterdir()}
    assert names == {
        "index.html",
        "figures",
        "results.csv",
        "zero_shot-phantom_cxr-test.csv",
        "zero_shot-phantom_cxr-test.tex",
    }
    assert pl.read_csv(written / "results.csv").height == page.read(run).results.height
    figures = {path.name for path in (written / "figures").iterdir()}
    assert "roc_curves-nova_phantom-zero_shot-phantom_cxr-test.png" in figures
    assert len(figures) == 12


HOSTILE_NAME = "</title><script>alert('run')</script>"
HOSTILE_LABEL = '"><img src=x onerror="alert(1)">'


def test_everything_from_outside_is_escaped(tmp_path, unrendered):
    run = fake_run.write(
        tmp_path / "run",
        name=HOSTILE_NAME,
        data="<script>data</script>",
        labels=("cardiomegaly", HOSTILE_LABEL, "_{{ 7 * 7 }}", "{0} %s \\n $x$"),
        impression="<script>report</script>",
    )
    seen = read(page.report([run], tmp_path / "report"))
    assert not seen.all("script")
    assert {attributes["src"] for attributes in seen.all("img")} == {"data:image/png;base64,cGl4ZWxz"}
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert HOSTILE_NAME in seen.text
    assert "img src=x onerror" in seen.text
    assert "{{ 7 * 7 }}" in seen.text
    inside = {path.resolve() for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(tmp_path.resolve()) for path in inside)


def test_a_name_cannot_leave_the_report_folder(tmp_path, unrendered):
    run = fake_run.write(tmp_path / "run", name="../../outside")
    page.report([run], tmp_path / "a" / "b" / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "run"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["report"]


@pytest.fixture
def credentialed(tmp_path):
    return fake_run.write(
        tmp_path / "run",
        data="mimic_cxr",
        access="credentialed",
        impression="Secret impression of a patient.",
    )


def test_credentialed_data_show_no_pixels_ids_or_text(credentialed, tmp_path, unrendered, monkeypatch):
    monkeypatch.setattr(example_cases, "draw", lambda *_, **__: pytest.fail("drew credentialed images"))
    output = page.report([credentialed], tmp_path / "report").parent
    for path in output.rglob("*.*"):
        data = path.read_bytes()
        assert not any(word in data for word in (b"Secret impression", b"secret_image", b"secret_patient"))
    seen = read(output / "index.html")
    assert "Images and report text of mimic_cxr are left out: the data are credentialed." in seen.text
    assert "Do not share" not in seen.text
    assert "Synthetic data." not in seen.text
    assert not list((output / "figures").glob("example_cases*"))


def test_cases_of_credentialed_data_stand_below_a_banner(credentialed, tmp_path, unrendered):
    seen = read(page.report([credentialed], tmp_path / "report", cases=True))
    assert (
        "Do not share this page. It shows images and report text of credentialed data (mimic_cxr)"
        in seen.text
    )
    assert (tmp_path / "report" / "figures" / "example_cases-nova_phantom-mimic_cxr.png").exists()


def test_a_report_without_cases_removes_those_of_the_one_before(credentialed, tmp_path, unrendered):
    page.report([credentialed], tmp_path / "report", cases=True)
    page.report([credentialed], tmp_path / "report")
    assert not list((tmp_path / "report" / "figures").glob("example_cases*"))


@pytest.mark.parametrize("change", ["no card", "other data", "unknown access"])
def test_what_is_not_known_to_be_free_is_treated_as_credentialed(tmp_path, unrendered, change):
    access = "publicish" if change == "unknown access" else "open"
    run = fake_run.write(tmp_path / "run", data="openi", access=access)
    if change == "no card":
        (run / "card.json").unlink()
    if change == "other data":
        (run / "cases" / "openi.parquet").rename(run / "cases" / "mimic_cxr.parquet")
    page.report([run], tmp_path / "report")
    assert not list((tmp_path / "report" / "figures").glob("example_cases*"))


def test_open_data_show_their_cases_without_a_synthetic_mark(tmp_path, unrendered):
    run = fake_run.write(tmp_path / "run", data="openi", access="open")
    seen = read(page.report([run], tmp_path / "report"))
    assert list((tmp_path / "report" / "figures").glob("example_cases*"))
    assert "synthetic" not in seen.text.lower()


def test_several_runs_are_compared_and_unequal_budgets_marked(run, rival, tmp_path, unrendered):
    seen = read(page.report([run, rival], tmp_path / "report"))
    assert "Unequal budgets. The runs differ in samples seen" in seen.text
    assert "infonce_phantom 1 †" in seen.text
    assert "nova_phantom 2 †" in seen.text
    assert "infonce_phantom − nova_phantom 0.0" in seen.text
    assert "Spread over training seeds" not in seen.text
    assert (tmp_path / "report" / "zero_shot-phantom_cxr-test.csv").read_text().count("infonce_phantom") == 4


def test_equal_budgets_rank_without_a_mark(run, tmp_path, unrendered):
    twin = fake_run.write(tmp_path / "twin", name="twin", seed=1)
    seen = read(page.report([run, twin], tmp_path / "report"))
    assert "†" not in seen.text
    assert "Unequal budgets" not in seen.text
    assert "Mean macro AUC" in seen.text


def test_two_runs_of_one_name_are_told_apart(run, tmp_path, unrendered):
    twin = fake_run.write(tmp_path / "twin", seed=1)
    seen = read(page.report([run, twin], tmp_path / "report"))
    assert "nova_phantom (2)" in seen.text


@pytest.mark.parametrize("name", ["metrics.parquet", "results.parquet", "config.yaml", "card.json"])
def test_each_file_may_be_missing(tmp_path, unrendered, name):
    run = fake_run.write(tmp_path / "run")
    (run / name).unlink()
    assert "nova_phantom" in read(page.report([run], tmp_path / "report")).text or name == "results.parquet"


def test_a_run_that_was_only_trained_has_a_page(tmp_path, unrendered):
    run = fake_run.write(tmp_path / "run")
    for path in [
        run / "results.parquet",
        *run.glob("predictions/*"),
        *run.glob("embeddings/*"),
        *run.glob("cases/*"),
    ]:
        path.unlink()
    seen = read(page.report([run], tmp_path / "report"))
    assert "No result yet: radlearn evaluate" in seen.text
    assert len(seen.all("img")) == 2


def test_a_table_that_cannot_be_drawn_says_why_and_costs_nothing_else(tmp_path, unrendered):
    run = fake_run.write(tmp_path / "run")
    pl.DataFrame({"step": [1], "diagnostics/image_std_mean": [0.5]}).write_parquet(run / "metrics.parquet")
    seen = read(page.report([run], tmp_path / "report"))
    assert "figure 'learning_curves' needs the column 'loss'" in seen.text
    assert len(seen.all("img")) == 5


def test_a_collapse_is_told_in_words(tmp_path, unrendered):
    run = fake_run.write(tmp_path / "run")
    table = pl.read_parquet(run / "metrics.parquet")
    shrunk = pl.col("diagnostics/image_std_mean") * 0.05
    table.with_columns(shrunk).write_parquet(run / "metrics.parquet")
    assert (
        "From step 25 on, three probes in a row found the image embedding"
        in read(page.report([run], tmp_path / "report")).text
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (48_000, "48,000"),
        (2.5, "2.5"),
        (1.64325e11, "1.64 × 10¹¹"),
    ],
)
def test_numbers_are_written_for_people(value, shown):
    assert page._number(value) == shown


def test_main_finds_runs_by_name_and_folder(run, tmp_path, unrendered, capsys):
    by_name = page.main(
        {"runs": [run.name], "output": str(tmp_path / "a"), "paths": {"runs": str(run.parent)}}
    )
    by_folder = page.main({"runs": str(run), "output": str(tmp_path / "b"), "cases": False, "paths": {}})
    assert by_name.read_text() == by_folder.read_text()
    assert str(by_name) in capsys.readouterr().out


def test_main_writes_beside_the_run_or_among_the_runs(tmp_path, unrendered):
    first, second = (fake_run.write(tmp_path / name, name=name) for name in ("first", "second"))
    paths = {"runs": str(tmp_path)}
    assert page.main({"runs": ["first"], "output": None, "paths": paths}) == first / "report" / "index.html"
    assert page.main({"runs": ["first", second.name], "paths": paths}) == tmp_path / "report" / "index.html"


def test_bad_requests_say_what_to_do(tmp_path, run):
    with pytest.raises(ConfigurationError, match=r"runs=\[first,second\]"):
        page.main({"runs": [], "paths": {"runs": "runs"}})
    with pytest.raises(ConfigurationError, match="at least one run"):
        page.report([], tmp_path)
    with pytest.raises(DataError, match=r"no run folder.*did you mean 'nova_phantom'"):
        page.report([run.parent / "nova_fantom"], tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is no run folder"):
        page.report([tmp_path / "empty"], tmp_path)


def test_an_output_that_cannot_be_written_is_a_clear_error(run, tmp_path, unrendered):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match="choose a folder with output="):
        page.report([run], tmp_path / "taken")


def test_the_recorded_command_is_preferred(tmp_path, unrendered):
    run = fake_run.write(tmp_path / "run")
    with (run / "config.yaml").open("a") as stream:
        stream.write("command: radlearn demo fast=true\n")
    assert "radlearn demo fast=true radlearn evaluate" in read(page.report([run], tmp_path / "report")).text


def test_interpolations_are_shown_and_not_resolved(tmp_path, unrendered, monkeypatch):
    monkeypatch.setenv("PRIVATE_VALUE", "leaked")
    run = fake_run.write(tmp_path / "run")
    with (run / "config.yaml").open("a") as stream:
        stream.write("tracker: ${oc.env:PRIVATE_VALUE}\n")
    assert "leaked" not in read(page.report([run], tmp_path / "report")).text
