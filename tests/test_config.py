"""Validation, merging, saving and hashing of configurations; no data is read and torch is not needed."""

from __future__ import annotations

import ast
import copy
from pathlib import Path

import pytest

from radlearn import config, registry, schema
from radlearn.composition import as_overrides, compose, setting
from radlearn.errors import ConfigurationError

PHANTOM = ("data=phantom_cxr", "encoder=small_cnn")


def pretrain(*overrides: str, **options):
    return compose("pretrain", [*PHANTOM, *overrides], **options)


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    for name in (
        "RADLEARN_RUNS",
        "RADLEARN_DATA",
        "RADLEARN_CACHE",
        "RADLEARN_TRACKER_PROJECT",
        "RADLEARN_PLUGINS",
    ):
        monkeypatch.delenv(name, raising=False)


# Published settings of NOVA: reference values from its README (batch, learning rates, crops, widths).
def test_the_defaults_are_novas():
    cfg = compose("pretrain", ["data=phantom_cxr"])
    wanted = {
        "batch_size": 256, "epochs": 100, "lr": 1e-4, "eta_min": 1e-5, "lambda_sigreg": 0.02, "embed_dim": 64,
        "predictor_width": 2048, "predictor_depth": 2, "global_crops_number": 2, "global_size": 224,
        "local_crops_number": 6, "local_size": 96, "max_grad_norm": 1.0, "precision": "bf16-mixed", "seed": 1,
    }  # fmt: skip
    assert {key: cfg[key] for key in wanted} == wanted
    assert cfg["encoder"]["arch"] == "vit_base_patch16_224"
    assert cfg["method"]["name"] == "nova"
    assert cfg["run_name"] == "nova-phantom_cxr"


def test_real_data_name_their_text_model_and_synthetic_data_take_what_is_there():
    table = compose("pretrain", ["data.train_manifest=t.csv"])
    assert table["text"]["model"] == "emilyalsentzer/Bio_ClinicalBERT"
    assert pretrain()["text"]["model"] == "auto"
    assert pretrain("text=minilm")["text"]["model"] == "minilm"


@pytest.fixture(scope="module")
def composed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", "/nowhere")
        return pretrain()


def check(composed, key: str, value: object) -> None:
    """Validate with one key changed: as a command-line override, without composing again."""
    cfg = copy.deepcopy(composed)
    *sections, last = key.split(".")
    section = cfg
    for name in sections:
        section = section.setdefault(name, {})
    section[last] = value
    config.validate(cfg, "pretrain", [key])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("experimnt", ("experimnt", "did you mean 'experiment'")),
        ("bach_size", ("bach_size", "did you mean 'batch_size'")),
        ("normalise", ("normalise", "did you mean 'encoder.normalise'")),
        ("knots", ("knots", "did you mean 'sigreg.knots'")),
        ("method.lambda_sigrg", ("lambda_sigrg", "did you mean 'lambda_sigreg'")),
        ("encoder.multiplyer", ("multiplyer", "did you mean 'multiplier'")),
        ("data.max_bad_frction", ("max_bad_frction", "did you mean 'max_bad_fraction'")),
        ("text.poling", ("text.poling", "did you mean 'pooling'")),
        ("sigreg.slice", ("sigreg.slice", "did you mean 'slices'")),
        ("views.global.scal", ("scal", "did you mean 'scale'")),
        ("views.globl", ("views.globl", "did you mean 'global'")),
        ("trainer.overfit_batchs", ("overfit_batchs", "did you mean 'overfit_batches'")),
        ("trainer.devices", ("trainer.devices", "devices=2")),
        ("paths.run", ("paths.run", "did you mean 'runs'")),
        ("model.vitt", ("model.vitt", "did you mean 'vit'")),
    ],
)
def test_a_mistyped_key_is_named_with_its_nearest(composed, key, words):
    with pytest.raises(ConfigurationError) as error:
        check(composed, key, 2)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+experimnt=LoVT_100", r"experimnt.*did you mean 'experiment'"),
        ("method=nva", r"no 'nva' in method.*did you mean 'nova'"),
        ("experiment=demo_nva", r"no 'demo_nva' in experiment.*did you mean 'demo_nova'"),
        ("method.name=nva", r"no 'nva' in objectives.*did you mean 'nova'"),
        ("lr=fast", "lr is a number"),
    ],
)
def test_overrides_that_cannot_be_used_are_refused(override, words):
    with pytest.raises(ConfigurationError, match=words):
        pretrain(override)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", "abc"), ("batch_size", 0), ("batch_size", 2.5), ("batch_size", True),
        ("batch_size", None), ("epochs", 0), ("lr", 0), ("lr", -1), ("lr", "fast"), ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", 1e-6), ("lambda_sigreg", 1.1), ("lambda_sigreg", -0.1), ("fast", 1), ("fast", "yes"),
        ("precision", "bf17"), ("sigreg.pool", "jont"), ("sigreg.knots", 2), ("text.pooling", "max"),
        ("text.max_length", 0), ("max_grad_norm", 0), ("evals", "chexpert"), ("freeze", "image_encoder"),
        ("run_name", "../up"), ("run_name", "/abs"), ("run_name", ""), ("data.max_bad_fraction", 2),
        ("encoder.image_size", "big"), ("paths.runs", ["a"]), ("views.global", 3), ("seed", -1), ("data", 3),
    ],
)  # fmt: skip
def test_wrong_types_and_ranges_are_refused_and_name_the_key(composed, key, value):
    with pytest.raises(ConfigurationError, match=key.rpartition(".")[2]):
        check(composed, key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_size", "auto"), ("devices", "auto"), ("devices", [0, 1]), ("max_grad_norm", None), ("lr", 1),
     ("views.global.flip", 0.5), ("trainer.overfit_batches", 1), ("method.activation", "relu"),
     ("freeze", ["image_encoder"]), ("run_name", "a/b.c-d")],
)  # fmt: skip
def test_what_is_allowed_passes(composed, key, value):
    check(composed, key, value)


def test_a_key_of_another_method_is_refused_only_when_it_was_set():
    assert pretrain("method=infonce")["lambda_sigreg"] == 0.02
    with pytest.raises(ConfigurationError, match=r"method=infonce does not take lambda_sigreg.*nova"):
        pretrain("method=infonce", "lambda_sigreg=0.1")
    with pytest.raises(ConfigurationError, match=r"method=siglip does not take sigreg\.pool"):
        pretrain("method=siglip", "sigreg.pool=per_view")
    with pytest.raises(ConfigurationError, match=r"does not take text\.stop_grad"):
        pretrain("method=medclip", "text.stop_grad=true")


def test_constructor_arguments_come_from_run_keys_and_then_from_method():
    cfg = pretrain("embed_dim=32", "sigreg.slices=99", "text.head=mlp", "seed=7", "method.activation=relu")
    arguments = config.objective_arguments(cfg)
    assert arguments["embed_dim"] == 32
    assert arguments["sigreg"]["slices"] == 99
    assert arguments["text_head"] == "mlp"
    assert arguments["seed"] == 7
    assert arguments["activation"] == "relu"
    assert "name" not in arguments
    assert arguments.keys() == registry.signature("objectives", "nova").keys()
    assert config.objective_arguments(pretrain("embed_dim=32", "method.embed_dim=16"))["embed_dim"] == 16


def test_the_merge_holds_constructor_defaults_but_not_twice():
    cfg = pretrain("method=infonce")
    assert cfg["method"]["temperature"] == 0.07
    assert cfg["method"]["same_text"] == "negative"
    assert "embed_dim" not in cfg["method"]
    assert cfg["encoder"]["normalise"] == "per_image"
    assert config.encoder_arguments(cfg)["image_size"] == 224


def test_every_default_and_every_shipped_value_builds_the_real_constructors():
    from radlearn.training.model import build_objective

    for method in ("nova", "infonce", "clip", "siglip", "medclip"):
        objective = build_objective(compose("demo", [f"method={method}", "predictor_width=8"]), 12)
        assert objective.image_encoder.image_size == 96


def test_saving_and_loading_gives_the_same_configuration(tmp_path):
    cfg = pretrain("run_name=Zürich", "method.activation=relu")
    config.save(cfg, tmp_path)
    assert config.load(tmp_path) == cfg
    assert config.load(tmp_path / "config.yaml") == cfg
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    config.validate(config.load(tmp_path), "pretrain")


@pytest.mark.parametrize(("text", "words"), [("- 1\n", "no configuration"), ("a: [", "no YAML")])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, words):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        config.load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"no configuration at .*absent"):
        config.load(tmp_path / "absent.yaml")


def test_the_hash_sees_what_changes_numbers_and_nothing_else():
    reference = config.config_hash(pretrain())
    assert config.config_hash(pretrain("run_name=other", "paths.runs=/elsewhere")) == reference
    assert config.config_hash(pretrain("lr=2e-4")) != reference
    assert config.config_hash(dict(reversed(pretrain().items()))) == reference


def test_environment_wins_over_the_settings_file_and_the_command_line_over_both(monkeypatch, tmp_path):
    assert pretrain()["paths"]["runs"] == "runs"
    (tmp_path / "radlearn").mkdir()
    (tmp_path / "radlearn" / "config.yaml").write_text(
        "paths: {runs: /file/runs, data: /file/data}\ntracker_project: p\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert pretrain()["paths"] | {"cache": ""} == {"runs": "/file/runs", "data": "/file/data", "cache": ""}
    assert pretrain()["wandb_project"] == "p"
    monkeypatch.setenv("RADLEARN_RUNS", "/environment/runs")
    monkeypatch.setenv("RADLEARN_TRACKER_PROJECT", "q")
    assert pretrain()["paths"]["runs"] == "/environment/runs"
    assert pretrain()["output_dir"] == "/environment/runs/nova-phantom_cxr"
    assert pretrain()["wandb_project"] == "q"
    assert pretrain("paths.runs=here")["paths"]["runs"] == "here"


def test_an_unknown_user_setting_is_an_error(monkeypatch, tmp_path):
    (tmp_path / "radlearn").mkdir()
    (tmp_path / "radlearn" / "config.yaml").write_text("paths: {run: /x}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"paths\.run.*did you mean 'paths\.runs'"):
        setting("paths.runs")
    with pytest.raises(ConfigurationError, match=r"paths\.run"):
        pretrain()


def test_home_is_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/reader")
    assert pretrain("paths.runs=~/runs")["paths"]["runs"] == "/home/reader/runs"
    assert pretrain()["paths"]["cache"] == "/home/reader/.cache/radlearn"


EVALUATION = {
    "name": "a",
    "manifest": "t.csv",
    "label_cols": ["x", "y"],
    "positive_prompts": ["p", ["q", "q2"]],
    "negative_prompts": ["r", "s"],
}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"manifest": "t.csv"}, "needs a name"),
        ({"name": "a"}, "needs manifest"),
        ({"name": "a", "manifst": "t.csv"}, "did you mean 'manifest'"),
        ({**EVALUATION, "enabled": 3}, "enabled"),
        ({"name": "a", "data": "nowhere"}, "no 'nowhere' in manifests"),
        ({"name": "a", "data": "phantom_cxr", "manifest": "t.csv"}, "no setting 'manifest'"),
        ({**EVALUATION, "positive_prompts": ["p"]}, "2 label_cols and 1 positive"),
        ("chexpert", "is a section"),
    ],
)
def test_evaluations_are_checked_entry_by_entry(composed, entry, words):
    check(composed, "evals", [EVALUATION])
    with pytest.raises(ConfigurationError, match=words):
        check(composed, "evals", [EVALUATION, entry])


def test_python_values_become_overrides():
    overrides = as_overrides(
        {"method": "infonce", "data": {"name": "table", "train_manifest": "a b,c.csv"}, "fast": True,
         "lr": 1e-4, "max_steps": None, "views": {"global": {"scale": [0.5, 1.0]}}, "run_name": "it's"}
    )  # fmt: skip
    cfg = compose("pretrain", overrides)
    assert cfg["recipe"] == "infonce"
    assert cfg["data"]["train_manifest"] == "a b,c.csv"
    assert (cfg["fast"], cfg["lr"], cfg["max_steps"], cfg["run_name"]) == (True, 1e-4, None, "it's")
    assert cfg["views"]["global"]["scale"] == [0.5, 1.0]


def test_values_that_hold_an_equals_sign_need_no_quotes():
    assert pretrain("ckpt_path=a/epoch=3-step=10.ckpt")["ckpt_path"] == "a/epoch=3-step=10.ckpt"
    with pytest.raises(ConfigurationError, match="cannot read"):
        pretrain("run_name=[a")
    with pytest.raises(ConfigurationError, match="no key=value"):
        pretrain("nova")


def test_own_files_are_found_in_the_given_folder_and_in_configs(monkeypatch, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "big.yaml").write_text("# @package _global_\nembed_dim: 512\n")
    (tmp_path / "configs" / "data").mkdir(parents=True)
    (tmp_path / "configs" / "data" / "ours.yaml").write_text("name: phantom_cxr\nmax_bad_fraction: 0.5\n")
    # A file of the same name as one that ships does not replace it unseen.
    (tmp_path / "configs" / "model").mkdir()
    (tmp_path / "configs" / "model" / "base.yaml").write_text("vit: other\n")
    monkeypatch.chdir(tmp_path)
    cfg = compose("pretrain", ["experiment=big", "data=ours"], config_dir=tmp_path / "mine")
    assert cfg["embed_dim"] == 512
    assert cfg["data"]["max_bad_fraction"] == 0.5
    assert cfg["encoder"]["arch"] == "vit_base_patch16_224"
    with pytest.raises(ConfigurationError, match="is no folder"):
        compose("pretrain", config_dir=tmp_path / "absent")


TOY = '''
"""A toy method."""
from radlearn.objectives.base import Objective

class Toy(Objective):
    def __init__(self, image_encoder, text_width=None, *, embed_dim: int, sharpness: float = 2.0):
        super().__init__(image_encoder, text_width)
'''


def test_a_plug_in_file_can_be_chosen_and_checked_without_a_yaml_file(monkeypatch, tmp_path):
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "toy.py").write_text(TOY)
    monkeypatch.setenv("RADLEARN_PLUGINS", str(tmp_path))
    cfg = pretrain("method=toy", "embed_dim=5")
    assert cfg["recipe"] == "toy"
    assert config.objective_arguments(cfg) == {"embed_dim": 5, "sharpness": 2.0}
    with pytest.raises(ConfigurationError, match="did you mean 'sharpness'"):
        pretrain("method=toy", "method.sharpnes=1")
    with pytest.raises(ConfigurationError, match="does not take lambda_sigreg"):
        pretrain("method=toy", "lambda_sigreg=0.1")


def test_a_dotted_path_brings_a_class_from_outside():
    assert pretrain("method=my_lab.methods.Mine", "method.depth=3")["method"] == {
        "name": "my_lab.methods.Mine",
        "depth": 3,
    }
    assert pretrain("encoder.name=my_lab.Encoder")["encoder"]["name"] == "my_lab.Encoder"


def test_evaluate_takes_deviations_from_the_runs_data_and_drops_text():
    cfg = compose("evaluate", ["name=first", "data.root=/elsewhere"])
    assert cfg["run"] == "first"
    assert cfg["data"] == {"root": "/elsewhere"}
    assert "text" not in cfg
    assert compose("evaluate", ["run=first"])["data"] is None
    assert compose("evaluate", ["run=first", "data=phantom_cxr"])["data"]["name"] == "phantom_cxr"
    assert compose("report", ["run=first"])["runs"] == ["first"]


def test_composing_inside_another_hydra_application_leaves_it_alone():
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_module("radlearn.configs", version_base="1.3"):
        theirs = GlobalHydra.instance().hydra
        pretrain()
        assert GlobalHydra.instance().hydra is theirs


def test_the_schema_lists_the_keys_of_the_yaml_files():
    for verb, keys in schema.VERBS.items():
        cfg = compose(verb, PHANTOM if verb == "pretrain" else ["data=phantom_cxr"] if "data" in keys else [])
        assert cfg.keys() == keys.keys(), verb


HEAVY = ("torch", "lightning", "polars", "numpy", "hydra", "omegaconf", "yaml")


def test_configuration_imports_nothing_heavy_at_module_level():
    for name in (
        "cli",
        "config",
        "schema",
        "shipped",
        "usage",
        "listing",
        "completion",
        "registry",
        "records",
    ):
        source = Path(config.__file__).with_name(f"{name}.py")
        for node in ast.parse(source.read_text()).body:
            for module in _imported(node):
                assert module.split(".")[0] not in HEAVY


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
