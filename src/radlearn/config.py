"""The composed configuration: checked against constructors before any data is read, merged, saved and hashed.

A configuration is a plain nested dict. Constructor signatures are the schema of `method`, `encoder`, `data`
and `task`; they are read from source, so that a mistyped key is answered at once and without torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from radlearn import registry, schema
from radlearn.errors import ConfigurationError, nearest

# Section of the configuration -> kind of plug-in, in the order in which errors are looked for.
PLUGINS = {"method": "objectives", "encoder": "encoders", "data": "manifests", "task": "tasks"}
FILE_NAME = "config.yaml"
# What does not change a run's numbers: where it lies, and what it is called.
_NOT_HASHED = ("run_name", "output_dir", "paths")


def validate(config: Mapping[str, Any], verb: str, given: Iterable[str] = ()) -> None:
    """Refuse unknown keys, wrong types, values out of range and settings that a constructor does not take.

    Args:
        config: the composed and resolved configuration.
        verb: whose keys.
        given: the keys that the user set, dotted; a key that the chosen method ignores is an error only then.

    Raises:
        ConfigurationError: names the key, what was wanted, what came and the nearest key.
    """
    keys = schema.VERBS[verb]
    for name in config:
        if name not in keys:
            raise ConfigurationError(f"{verb} takes no key '{name}'{_hint(name, keys, config)}")
    for name, key in keys.items():
        schema.check(name, key, config.get(name))
    for section in schema.SECTIONS:
        if config.get(section) is not None:
            _check_section(section, config[section])
    for section in PLUGINS:
        if config.get(section) is not None:
            _check_plugin(config, verb, section)
    _check_views(config.get("views") or {})
    _check_trainer(config.get("trainer") or {}, keys)
    for position, entry in enumerate(config.get("evals") or []):
        _check_evaluation(position, entry)
    _check_taken(config, given)
    _check_run(config)


def _hint(name: str, keys: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    found = nearest(name, [*keys, "experiment"])
    if found:
        return found
    for section in (s for s in keys if isinstance(config.get(s), Mapping)):
        known = (
            _plugin_keys(section, config[section]) if section in PLUGINS else schema.SECTIONS.get(section, {})
        )
        if name in (known or ()):
            return f"; did you mean '{section}.{name}'?"
    return ""


def _check_section(section: str, values: Mapping[str, Any]) -> None:
    keys = schema.SECTIONS[section]
    for name, value in values.items():
        if name not in keys:
            raise ConfigurationError(
                f"no key '{section}.{name}': {section} has {', '.join(keys)}{nearest(name, keys)}"
            )
        schema.check(f"{section}.{name}", keys[name], value)


def _plugin_keys(section: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Setting -> default of a section's plug-in, or None where its source is not at hand."""
    name = values.get("name")
    if not isinstance(name, str):
        there = ", ".join(registry.names(PLUGINS[section]))
        raise ConfigurationError(f"{section}=NAME is missing: there is {there}")
    kind = PLUGINS[section]
    known = registry.signature(kind, name)
    if known is None and "." not in name and name not in registry.names(kind):
        names = registry.names(kind)
        raise ConfigurationError(f"no '{name}' in {kind}: there is {', '.join(names)}{nearest(name, names)}")
    return known


def _check_plugin(config: Mapping[str, Any], verb: str, section: str) -> None:
    values = config[section]
    if verb in ("evaluate", "embed") and section == "data" and "name" not in values:
        return  # Deviations from the data set of the run, which is read later.
    known = _plugin_keys(section, values)
    general = schema.DATA if section == "data" else {}
    for name, value in values.items():
        if name in general:
            schema.check(f"{section}.{name}", general[name], value)
        elif name != "name" and known is not None:
            _check_setting(f"{section}={values['name']}", name, value, {**known, **dict.fromkeys(general)})
    for name, default in (known or {}).items():
        if default is ... and name not in values and _run_value(config, name) is _NONE:
            raise ConfigurationError(f"{section}={values['name']} needs {section}.{name}: it has no default")


def _check_setting(owner: str, name: str, value: Any, known: Mapping[str, Any]) -> None:
    if name not in known:
        there = f"it has {', '.join(known)}" if known else "it has none"
        raise ConfigurationError(f"{owner} has no setting '{name}': {there}{nearest(name, known)}")
    if isinstance(known[name], int | float) and isinstance(value, str) and value != "auto":
        raise ConfigurationError(
            f"{owner} wants a number for '{name}' (default {known[name]}): got '{value}'"
        )


def _check_views(views: Mapping[str, Any]) -> None:
    for group, settings in views.items():
        for name, value in settings.items():
            _check_setting(f"views.{group}", name, value, _view_settings())


def _view_settings() -> dict[str, Any]:
    """Field -> None of the augmentation's settings, read from the source of `data/views.py`."""
    source = Path(__file__).parent / "data" / "views.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "ViewSpec":
            fields = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            return {target.id: None for target in fields if isinstance(target, ast.Name)}
    raise AssertionError(f"{source} defines ViewSpec")


def _check_trainer(settings: Mapping[str, Any], keys: Mapping[str, Any]) -> None:
    if not settings:
        return
    known = _trainer_arguments()
    for name, value in settings.items():
        if name in keys:
            raise ConfigurationError(f"trainer.{name} is the run key {name}; set {name}={value}")
        _check_setting("trainer", name, value, known)


def _trainer_arguments() -> dict[str, Any]:
    """Argument -> None of lightning.Trainer, read from its source: importing it takes seconds."""
    package = importlib.util.find_spec("lightning")
    assert package is not None
    assert package.submodule_search_locations
    source = Path(next(iter(package.submodule_search_locations))) / "pytorch" / "trainer" / "trainer.py"
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            init = next(i for i in node.body if isinstance(i, ast.FunctionDef) and i.name == "__init__")
            return {argument.arg: None for argument in init.args.kwonlyargs}
    raise AssertionError(f"{source} defines Trainer")


def _check_evaluation(position: int, entry: Any) -> None:
    where = f"evals[{position}]"
    if not isinstance(entry, Mapping):
        raise ConfigurationError(
            f"{where} is a section {{name: ..., manifest: ..., label_cols: [...]}}: got {entry}"
        )
    manifest = {"name": entry.get("data", "table")}
    general = {
        k: None for k in (*schema.EVALUATION, *schema.DATA) if k != "manifest" or manifest["name"] == "table"
    }
    known = {**general, **(_plugin_keys("data", manifest) or {})}
    for name, value in entry.items():
        _check_setting(where, name, value, known)
        if name in schema.EVALUATION:
            schema.check(f"{where}.{name}", schema.EVALUATION[name], value)
    if "name" not in entry:
        raise ConfigurationError(f"{where} needs a name: it stands in metrics and results")
    if manifest["name"] == "table" and "manifest" not in entry:
        raise ConfigurationError(
            f"{where} ({entry['name']}) needs manifest=TABLE, or data=NAME of a data set"
        )
    labels = entry.get("label_cols")
    for name in ("positive_prompts", "negative_prompts"):
        prompts = entry.get(name)
        if labels is not None and prompts is not None and len(prompts) != len(labels):
            raise ConfigurationError(
                f"{where} ({entry['name']}) has {len(labels)} label_cols and {len(prompts)} {name}: "
                "the lists go together entry by entry"
            )


def _check_taken(config: Mapping[str, Any], given: Iterable[str]) -> None:
    """Refuse keys of the method that the user set and the chosen method does not take."""
    method = config.get("method")
    known = _plugin_keys("method", method) if method else None
    if known is None:
        return
    for key in given:
        top, _, rest = key.partition(".")
        ours = top in schema.OF_THE_METHOD or (top == "text" and rest in schema.OF_THE_TEXT_HEAD)
        if ours and (f"text_{rest}" if top == "text" else top) not in known:
            others = [
                name
                for name in registry.names("objectives")
                if (f"text_{rest}" if top == "text" else top)
                in (registry.signature("objectives", name) or {})
            ]
            who = f"; methods that take it: {', '.join(others)}" if others else ""
            raise ConfigurationError(f"method={config['recipe']} does not take {key}{who}")


def _check_run(config: Mapping[str, Any]) -> None:
    name = config.get("run_name")
    if name is not None and (
        not name.strip() or PurePath(name).is_absolute() or ".." in PurePath(name).parts
    ):
        raise ConfigurationError(
            f"run_name names a folder inside paths.runs ({config['paths']['runs']}): got '{name}'"
        )
    if "lr" in config and config["eta_min"] > config["lr"]:
        raise ConfigurationError(
            f"eta_min is the learning rate at the end, {config['eta_min']:g}, and exceeds lr, "
            f"{config['lr']:g}: lower it too"
        )


def merge_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the constructors' defaults filled in, so that a saved one holds every setting.

    A setting that is also a run key keeps its value there.
    """
    merged = dict(config)
    for section in PLUGINS:
        values = config.get(section)
        if values and "name" in values:
            known = registry.signature(PLUGINS[section], values["name"]) or {}
            defaults = {name: value for name, value in known.items() if _is_plain(value)}
            if section == "method":
                defaults = {name: v for name, v in defaults.items() if _run_value(config, name) is _NONE}
            merged[section] = {"name": values["name"], **_plain(defaults), **values}
    return merged


def _is_plain(default: Any) -> bool:
    # A text that is no word may be the source of an expression, which only the constructor can evaluate.
    return default is not ... and (
        not isinstance(default, str) or (default.isidentifier() and not default.isupper())
    )


_NONE = object()


def _run_value(config: Mapping[str, Any], argument: str) -> Any:
    """The run key behind a constructor argument: `lambda_sigreg`, or `text.head` for `text_head`."""
    if argument in config:
        return config[argument]
    section, _, rest = argument.partition("_")
    if section == "text" and rest in (config.get("text") or {}):
        return config["text"][rest]
    return _NONE


def objective_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the method's constructor: run keys that it names, then `method.*`."""
    return _arguments(config, "method")


def task_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the task's constructor: run keys that it names, then `task.*`."""
    return _arguments(config, "task")


def _arguments(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    values = config[section]
    known = registry.signature(PLUGINS[section], values["name"]) or {}
    run = {name: _run_value(config, name) for name in known}
    own = {name: value for name, value in values.items() if name != "name"}
    return {name: value for name, value in run.items() if value is not _NONE} | own


def encoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the image encoder's constructor."""
    return {name: value for name, value in config["encoder"].items() if name != "name"}


def manifest_arguments(data: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the manifest's constructor from the `data` section."""
    known = registry.signature("manifests", data["name"])
    general = [name for name in schema.DATA if name not in (known or {})]
    return {name: value for name, value in data.items() if name not in ("name", *general)}


def config_hash(config: Mapping[str, Any]) -> str:
    """Twelve hex digits of everything that can change a run's numbers; its name and paths are left out."""
    kept = {name: value for name, value in config.items() if name not in _NOT_HASHED}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def save(config: Mapping[str, Any], path: Path) -> None:
    """Write the configuration as YAML, atomically; a folder takes it as `config.yaml`."""
    import yaml  # type: ignore[import-untyped]

    path = path / FILE_NAME if path.is_dir() else path
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        yaml.safe_dump(_plain(config), file, sort_keys=False, allow_unicode=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def load(path: Path) -> dict[str, Any]:
    """Read a saved configuration from a file, or from the folder of a run or checkpoint.

    Raises:
        ConfigurationError: if there is none, or it is no YAML mapping.
    """
    import yaml

    file = path / FILE_NAME if path.is_dir() else path
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"no configuration at {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is no YAML: {error}") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{file} holds no configuration: wanted key: value lines")
    return config
