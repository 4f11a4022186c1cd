# One command is the whole gate: `just check`.

setup:
    uv sync
    uv run pre-commit install --hook-type pre-commit --hook-type pre-push

check:
    .ci/run

test *arguments:
    uv run pytest {{arguments}}

# The whole flow on generated data, from manifest to page.
smoke:
    uv run radlearn demo fast=true run_name=smoke

format:
    uv run ruff format .
    uv run ruff check --fix .

# Each benchmark prints ratios against a named baseline, in one run.
bench name:
    uv run --group bench python benchmarks/{{name}}.py
