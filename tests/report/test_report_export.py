import csv
import io

import pytest

from radlearn.report import export, run_folder, scores

SUBJECT = ("zero_shot", "phantom_cxr", "test")


@pytest.fixture(scope="module")
def table(run):
    return scores.one_run(run_folder.read(run).results, SUBJECT)


def test_csv_holds_full_precision(table):
    rows = list(csv.DictReader(io.StringIO(export.as_csv(table))))
    assert [row["label"] for row in rows] == [line.label for line in table.lines]
    assert float(rows[0]["AUC value"]) == table.lines[0].cells[0]["value"]
    assert float(rows[0]["AUC chance"]) == 0.5
    assert rows[-1]["Average precision value"] == ""
    assert rows[-1]["num_positive"] == ""


def test_latex_is_a_booktabs_table_of_the_right_shape(table):
    text = export.as_latex(table, synthetic=True)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(table.lines)
    assert {line.count(" & ") for line in body} == {len(table.columns) + 1}
    assert text.count("\\midrule") == 2
    assert "Synthetic" in text
    assert "Synthetic" not in export.as_latex(table, synthetic=False)
    assert r"zero\_shot on phantom\_cxr, test" in text
    first = table.lines[0].cells[0]
    assert f"{first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]" in text


def test_latex_writes_its_own_characters_out():
    assert export.escape(r"50% & \input{x} #1 $y_2$ ~^") == (
        r"50\% \& \textbackslash{}input\{x\} \#1 \$y\_2\$ \textasciitilde{}\textasciicircum{}"
    )
    assert export.escape("a\n\\\\b") == r"a \textbackslash{}\textbackslash{}b"
