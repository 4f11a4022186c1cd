"""Every shipped configuration file composes and is valid; tables and pages in the documentation too."""

from __future__ import annotations

import re

import pytest

from radlearn import schema, shipped
from radlearn.composition import compose

# What a data set or an option cannot do without.
NEEDS = {"table": ["data.train_manifest=t.csv", "data.image_root=images"]}
PRIMARIES = [path.stem for path in sorted(shipped.FOLDER.glob("*.yaml"))]


def verb_of(primary: str) -> str:
    return primary if primary in schema.VERBS else "pretrain"


@pytest.mark.parametrize("primary", PRIMARIES)
def test_primary(primary):
    needs = [] if primary in ("embed", "evaluate", "report", "export", "check", "demo") else NEEDS["table"]
    cfg = compose(verb_of(primary), needs, config_name=primary)
    assert cfg.keys() == schema.VERBS[verb_of(primary)].keys()


OPTIONS = [
    (group, option)
    for group in ("model", "encoder", "text", "method", "data", "experiment")
    for option in shipped.options(group)
]


# Published experiments bring their own data set.
ON_MIMIC = [
    option
    for option in shipped.options("experiment")
    if option[0].isupper() or option.startswith(("ablation/", "lovt_mimic"))
]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option(group, option):
    needs = NEEDS.get(option, []) if group == "data" else ["data=phantom_cxr"]
    if option in ON_MIMIC:
        needs = ["data.root=/nowhere"]
    if option.startswith("demo_"):
        needs = [*needs, f"method={option.removeprefix('demo_')}"]
    compose("pretrain", [*needs, f"{group}={option}"])


@pytest.mark.parametrize("option", shipped.options("task"))
def test_task(option):
    assert compose("evaluate", ["run=r", f"task={option}"])["task"]["name"] == option


@pytest.mark.parametrize("method", shipped.options("method"))
def test_the_demo_has_a_recipe_for_every_method(method):
    cfg = compose("demo", [f"method={method}"])
    assert cfg["recipe"] == method
    assert cfg["encoder"]["name"] == "small_cnn"
    assert cfg["data"]["name"] == "phantom_cxr"
    assert cfg["max_steps"] is not None


@pytest.mark.parametrize(
    "path", [p for g in ("", *shipped.groups()) for p in (shipped.FOLDER / g).glob("*.yaml")]
)
def test_every_file_opens_with_a_sentence(path):
    assert re.search(r"(\.|arXiv:\d{4}\.\d{5})$", shipped.description(path))
