"""`radlearn completion bash|zsh`: the script a shell evaluates, and the words it asks for."""

from __future__ import annotations

from collections.abc import Sequence

from radlearn import registry, schema, shipped
from radlearn.cli import VERBS
from radlearn.errors import ConfigurationError, nearest
from radlearn.listing import KINDS

_BASH = """\
_radlearn() {
  local IFS=$'\\n' word
  # Bash splits words at "="; look at the whole text before the cursor instead.
  word="${COMP_LINE:0:COMP_POINT}"; word="${word##* }"
  COMPREPLY=($(radlearn completion words "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
  case "$word" in *=*) COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}");; esac
  case "${COMPREPLY[0]}" in *=) compopt -o nospace;; esac
}
complete -F _radlearn radlearn"""

_SCRIPTS = {"bash": _BASH, "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{_BASH}"}
# Group on the command line -> kind of plug-in that it also chooses from.
_GROUPS = {
    "method": "objectives",
    "model": None,
    "encoder": "encoders",
    "text": None,
    "data": "manifests",
    "task": "tasks",
    "experiment": None,
}


def main(arguments: Sequence[str]) -> str:
    """The script of a shell; or, with `words LINE`, the words that can follow what is typed."""
    if len(arguments) == 2 and arguments[0] == "words":
        return "\n".join(words(arguments[1]))
    shell = arguments[0] if arguments else ""
    if shell not in _SCRIPTS:
        known = ", ".join(_SCRIPTS)
        raise ConfigurationError(
            f"no completion for '{shell}': there is {known}{nearest(shell, _SCRIPTS)}"
            '\n\nhint: eval "$(radlearn completion bash)"'
        )
    return _SCRIPTS[shell]


def words(line: str) -> list[str]:
    """What can stand in place of the last word of a line."""
    typed = line.split(" ")
    current, before = typed[-1], [word for word in typed[1:-1] if word]
    if not before:
        candidates: list[str] = [*VERBS, "list", "completion", "--help", "--version"]
    elif before[0] == "list":
        candidates = list(KINDS)
    elif before[0] == "completion":
        candidates = list(_SCRIPTS)
    elif before[0] in VERBS:
        candidates = _of_verb(before[0], current)
    else:
        candidates = []
    return [word for word in candidates if word.startswith(current)]


def _of_verb(verb: str, current: str) -> list[str]:
    key, equals, _ = current.partition("=")
    keys = schema.VERBS[verb]
    if equals and key in _GROUPS:
        kind = _GROUPS[key]
        known = {*shipped.options(key), *(registry.names(kind) if kind else [])}
        return [f"{key}={name}" for name in sorted(known)]
    if equals and key in keys:
        values = keys[key].choices or (("true", "false") if bool in keys[key].types else ())
        return [f"{key}={value}" for value in values]
    flat = [name for name in keys if dict not in keys[name].types or name in _GROUPS]
    groups = ["experiment"] if "method" in keys else []
    return [f"{name}=" for name in (*flat, *groups)] + [
        "--cfg",
        "--config-name",
        "--config-dir",
        "--multirun",
    ]
