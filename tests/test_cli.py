"""The command line: help at once, errors in words, folders where they belong, every documented line."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import radlearn
from radlearn import cli, completion, listing, schema, shipped, usage
from radlearn.errors import ConfigurationError, DataError

DOCS = Path(__file__).parents[1] / "docs"
HEAVY = ["torch", "lightning", "transformers", "cv2", "matplotlib", "polars", "numpy", "timm"]


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """An empty working folder, without the settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("RADLEARN_CACHE", str(tmp_path / "cache"))
    for name in ("RADLEARN_RUNS", "RADLEARN_DATA", "RADLEARN_DEBUG", "RADLEARN_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """Verbs are recorded instead of run: (verb, configuration)."""
    recorded = []
    monkeypatch.setattr(cli, "function", lambda verb: lambda config: recorded.append((verb, config)))
    return recorded


def imported_by(*lines: list[str]) -> set[str]:
    """Top-level modules that a fresh interpreter has imported after these command lines."""
    code = (
        "import sys\nfrom radlearn.cli import main\n"
        f"for line in {list(lines)!r}:\n    main(line)\n"
        "print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_help_lists_and_completion_import_only_the_standard_library():
    lines = [
        ["--help"],
        ["list"],
        ["completion", "bash"],
        ["completion", "words", "radlearn pretrain "],
        ["--version"],
    ]
    lines += [[verb, "--help"] for verb in cli.VERBS]
    modules = imported_by(*lines)
    assert "radlearn" in modules
    assert not modules & {*HEAVY, "hydra", "omegaconf", "yaml", "rich"}


def test_configuration_errors_import_nothing_heavy():
    lines = [["pretrain", "batch_size=abc", "data=phantom_cxr"], ["pretrain", "+experimnt=LoVT_100"]]
    modules = imported_by(*lines, ["evaluate", "task=zero_shto"], ["pretrain", "--cfg", "job"])
    assert "hydra" in modules
    assert not modules & set(HEAVY)


def test_every_verb_has_its_parts():
    assert cli.VERBS.keys() == usage.USAGE.keys() == schema.VERBS.keys()
    for verb in cli.VERBS:
        assert (shipped.FOLDER / f"{verb}.yaml").is_file()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_shows_examples_and_every_key(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    for key in schema.VERBS[verb]:
        assert re.search(rf"(^|\s){key}[:=]", text), key
    assert all(example in text for example in usage.USAGE[verb].examples)
    assert all(example.startswith(f"radlearn {verb}") for example in usage.USAGE[verb].examples)


def commands() -> list[str]:
    lines = [example for use in usage.USAGE.values() for example in use.examples]
    for row in (DOCS / "coming-from.md").read_text(encoding="utf-8").splitlines():
        if row.startswith("|") and row.endswith("| works |"):
            lines += re.findall(r"`(radlearn [^`]*)`", row)
    return lines


@pytest.mark.parametrize("line", commands())
def test_every_documented_line_composes_and_is_valid(line, calls):
    words = shlex.split(line)[1:]
    assert cli.main(words) == 0
    jobs = 3 if "--multirun" in words else 1
    assert [verb for verb, _ in calls] == [words[0]] * jobs


def test_the_table_of_originals_says_what_works():
    text = (DOCS / "coming-from.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| `") or row.startswith("| (")]
    assert all(re.search(r"\| (works|planned) \|$", row) and "`radlearn " in row for row in rows)
    assert sum(row.endswith("| works |") for row in rows) >= 9


def test_my_data_in_ten_lines(place, calls):
    text = (DOCS / "my-data.md").read_text(encoding="utf-8")
    settings = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    lines = re.search(r"```bash\n(.*?)```", text, re.DOTALL)[1].splitlines()
    assert len(settings.splitlines()) + len(lines) == 10
    (place / "configs" / "data").mkdir(parents=True)
    (place / "configs" / "data" / "mine.yaml").write_text(settings)
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0
    assert [verb for verb, _ in calls] == ["check", "prepare", "pretrain", "evaluate", "report"]
    assert calls[2][1]["data"]["label_cols"] == ["edema"]
    assert calls[2][1]["text"]["model"] == "emilyalsentzer/Bio_ClinicalBERT"


def test_a_run_gets_its_folder_and_hydra_leaves_nothing_else(place, calls):
    assert cli.main(["pretrain", "data=phantom_cxr", "name=first", "batch_size=8"]) == 0
    [(_, config)] = calls
    assert (config["run_name"], config["output_dir"], config["batch_size"]) == ("first", "runs/first", 8)
    assert [path.relative_to(place).as_posix() for path in place.rglob("*")] == ["runs", "runs/first"]


def test_verbs_that_train_nothing_leave_nothing(place, calls):
    for line in (
        ["evaluate", "run=first"],
        ["report", "runs=[a,b]"],
        ["check"],
        ["prepare", "data=phantom_cxr"],
    ):
        assert cli.main(line) == 0
    assert len(calls) == 4
    assert calls[1][1]["runs"] == ["a", "b"]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("line", ["pretrain batch_size=abc", "pretrain lr=1e-6", "demo sigreg.pool=x"])
def test_a_configuration_error_exits_2_with_a_hint_and_no_empty_folder(place, line, calls, capsys):
    assert cli.main([*line.split(), "data=phantom_cxr", "run_name=new"]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: .+\n\nhint: .+\n", error)
    assert not calls
    assert list(place.iterdir()) == []


def test_a_failed_validation_keeps_what_was_there(place, calls):
    (place / "runs" / "old").mkdir(parents=True)
    assert cli.main(["pretrain", "data=phantom_cxr", "run_name=old", "batch_size=abc"]) == 2
    assert cli.main(["pretrain", "data=phantom_cxr", "run_name=a/b", "batch_size=abc"]) == 2
    assert [path.relative_to(place).as_posix() for path in place.rglob("*")] == ["runs", "runs/old"]


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ("pretran", "no verb 'pretran'", "did you mean 'pretrain'?"),
        ("pretrain +experimnt=LoVT_100", "pretrain takes no key 'experimnt'", "did you mean 'experiment'?"),
        ("pretrain method=nva", "no 'nva' in method", "did you mean 'nova'?"),
        ("pretrain --config-name infonc", "no configuration 'infonc'", "did you mean 'infonce'?"),
        ("evaluate --evaluate_extended", "no option '--evaluate_extended'", "evaluate_extended=true"),
        ("pretrain --vision_model=x", "no option '--vision_model'", "vision_model=x"),
        ("pretrain nova", "'nova' is no key=value", "radlearn pretrain --help"),
        ("evaluate model=small", "evaluate takes no key 'model'", "radlearn evaluate --help"),
        ("pretrain --config-name", "--config-name needs a value", "--help"),
        ("pretrain --config-dir nowhere", "nowhere is no folder", "--help"),
        ("list metods", "nothing called 'metods' to list", "did you mean 'methods'?"),
        ("completion fish", "no completion for 'fish'", "completion bash"),
    ],
)
def test_errors_say_what_to_do(line, words, hint, calls, capsys):
    assert cli.main(line.split()) == 2
    error = capsys.readouterr().err
    assert words in error.partition("\n\n")[0]
    assert hint in error.partition("\n\nhint: ")[2]
    assert "Traceback" not in error


def raising(error: BaseException):
    def main(config):
        raise error

    return lambda verb: main


def test_errors_of_a_verb_exit_1_without_a_traceback(place, monkeypatch, capsys):
    monkeypatch.setattr(cli, "function", raising(DataError("no table at train.csv")))
    assert cli.main(["evaluate", "run=a"]) == 1
    assert capsys.readouterr().err.startswith("error: no table at train.csv\n\nhint: ")
    assert cli.main(["pretrain", "data=phantom_cxr"]) == 1
    assert list(place.iterdir()) == []
    monkeypatch.setenv("RADLEARN_DEBUG", "1")
    with pytest.raises(DataError):
        cli.main(["evaluate", "run=a"])


def test_an_unexpected_error_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cli, "function", raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["evaluate", "run=a"])


def test_an_interruption_exits_130_and_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(cli, "function", raising(KeyboardInterrupt()))
    assert cli.main(["pretrain", "data=phantom_cxr"]) == 130
    assert capsys.readouterr().err == "interrupted: the same command resumes it\n"


def test_a_runs_folder_that_cannot_be_made_is_an_error_in_words(place, calls, capsys):
    (place / "file").write_text("")
    assert cli.main(["pretrain", "data=phantom_cxr", "paths.runs=file"]) == 1
    assert re.match(r"error: cannot make the folder .*\n\nhint: paths\.runs", capsys.readouterr().err)


def test_options_may_stand_anywhere(place, calls):
    (place / "mine" / "experiment").mkdir(parents=True)
    (place / "mine" / "experiment" / "wide.yaml").write_text("# @package _global_\nembed_dim: 99\n")
    line = "pretrain data=phantom_cxr --config-name siglip +experiment=wide -cd mine run_name=x"
    assert cli.main(line.split()) == 0
    assert (calls[0][1]["recipe"], calls[0][1]["embed_dim"]) == ("siglip", 99)


def test_cfg_job_prints_the_composition_and_runs_nothing(place, calls, capsys):
    assert cli.main(["pretrain", "--cfg", "job", "--resolve", "data=phantom_cxr", "lr=0.5"]) == 0
    text = capsys.readouterr().out
    assert "run_name: nova-phantom_cxr" in text
    assert "lr: 0.5" in text
    assert not calls
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("sweep", "names"),
    [
        ("lr=1e-3,1e-4 batch_size=4", ["nova-phantom_cxr-lr-0.001", "nova-phantom_cxr-lr-0.0001"]),
        ("run_name=mine seed=1,2", ["mine-seed-1", "mine-seed-2"]),
        ("run_name=a,b", ["a", "b"]),
        (
            "method=nova,infonce seed=1,2",
            [f"{m}-phantom_cxr-seed-{s}_method-{m}" for m in ("nova", "infonce") for s in "12"],
        ),
        (
            "experiment=demo,demo_nova",
            ["nova-phantom_cxr-experiment-demo", "nova-phantom_cxr-experiment-demo_nova"],
        ),
    ],
)
def test_each_job_of_a_sweep_is_a_run_of_its_own(sweep, names, place, calls):
    assert cli.main(["pretrain", "-m", "data=phantom_cxr", *sweep.split()]) == 0
    assert [config["run_name"] for _, config in calls] == names
    assert sorted(path.name for path in (place / "runs").iterdir() if path.is_dir()) == sorted(names)


def test_a_sweep_into_one_folder_is_refused_and_a_bad_job_is_reported(place, calls, capsys):
    assert cli.main(["pretrain", "-m", "data=phantom_cxr", "seed=1,2", "output_dir=here"]) == 2
    assert "output_dir would be the same" in capsys.readouterr().err
    assert cli.main(["pretrain", "-m", "data=phantom_cxr", "seed=1,-2"]) == 2
    assert "seed is a whole number" in capsys.readouterr().err
    assert [path.name for path in (place / "runs").iterdir() if path.is_dir()] == ["nova-phantom_cxr-seed-1"]


def test_list_names_what_there_is(capsys):
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("nova", "contrastive", "small_cnn", "table", "phantom_cxr", "zero_shot", "roc_curves"):
        assert re.search(rf"^  {name}\b", text, re.MULTILINE), name
    assert cli.main(["list", "methods"]) == 0
    assert re.search(r"nova +NOVA: predict", capsys.readouterr().out)
    assert (
        set(re.findall(r"\w+", "methods objectives encoders data tasks suites figures"))
        <= listing.KINDS.keys()
    )


def test_completion_knows_verbs_groups_keys_and_values():
    assert "pretrain" in completion.words("radlearn pre")
    assert completion.words("radlearn list met") == ["methods"]
    assert "method=nova" in completion.words("radlearn pretrain method=n")
    assert "experiment=demo_nova" in completion.words("radlearn pretrain lr=1 experiment=demo_")
    assert "lambda_sigreg=" in completion.words("radlearn pretrain lam")
    assert completion.words("radlearn pretrain fast=") == ["fast=true", "fast=false"]
    assert completion.words("radlearn nothing x") == []


def test_completion_works_in_bash(tmp_path):
    (tmp_path / "radlearn").write_text(f'#!/bin/sh\nexec {sys.executable} -m radlearn "$@"\n')
    (tmp_path / "radlearn").chmod(0o755)
    script = f"""
    PATH={tmp_path}:$PATH
    compopt() {{ :; }}
    eval "$(radlearn completion bash)"
    COMP_LINE='radlearn pretrain method=info' COMP_POINT=29; _radlearn; echo "${{COMPREPLY[@]}}"
    COMP_LINE='radlearn eval' COMP_POINT=13; _radlearn; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["infonce", "evaluate"]


def test_the_verbs_are_functions_of_the_package(calls):
    radlearn.pretrain("batch_size=8", data={"name": "phantom_cxr"}, method="infonce", seed=3)
    assert calls[0][0] == "pretrain"
    assert (calls[0][1]["batch_size"], calls[0][1]["recipe"], calls[0][1]["seed"]) == (8, "infonce", 3)
    with pytest.raises(ConfigurationError, match="bach_size"):
        radlearn.pretrain("bach_size=8", data="phantom_cxr")
    with pytest.raises(AttributeError, match="no attribute 'pretran'"):
        _ = radlearn.pretran


def test_a_verb_stays_callable_when_its_module_was_imported(calls):
    from radlearn import report

    report(runs=["a"])
    assert calls[0][0] == "report"
    assert radlearn.report is report
    assert report.__name__ == "radlearn.report"


def test_the_package_and_its_module_form():
    from importlib.metadata import version

    assert radlearn.__version__ == version("radlearn")
    done = subprocess.run(
        [sys.executable, "-m", "radlearn", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"radlearn {version('radlearn')}"
