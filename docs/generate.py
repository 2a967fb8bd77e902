"""Writes what follows from the code: pages of docs/reference/, and tables between markers in other pages.

``python docs/generate.py`` writes them; with ``--check`` it writes nothing, names each page that is stale, and exits with 1.
A block begins with ``<!-- generated: NAME -->`` and ends with ``<!-- end -->``; ``BLOCKS`` says what stands in it.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parent.parent
# Started as a script, Python looks for modules beside this file and not in the repository.
sys.path.insert(0, str(ROOT))

from components.art.families import FAMILIES  # noqa: E402
from components.cluster.stacks import StackDefinition  # noqa: E402
from components.core import errors  # noqa: E402
from components.core.comparison import CompareConfig  # noqa: E402
from components.core.config import RunConfig  # noqa: E402
from components.core.gpus import gpu_memory  # noqa: E402
from components.core.paths import HOME  # noqa: E402
from components.diffusion.models.layouts import FILE_KINDS, LAYOUTS, TEXT_WAYS, Layout  # noqa: E402
from components.diffusion.training.method_table import METHODS  # noqa: E402
from components.registry.gate import GateConfig  # noqa: E402
from orchestration.settings import SETTINGS  # noqa: E402
from orchestration.shipped import shipped  # noqa: E402
from pipelines.names import STEPS  # noqa: E402

REFERENCE = ROOT / "docs" / "reference"
NOTE = "This page is written by `docs/generate.py` from `{source}`. Do not edit it here.\n"
PARTLY = ("../README.md", "concepts.md", "how-to/real-art.md", "operations.md", "reference/files.md", "reference/zenml-yaml.md")
"""Pages with generated blocks."""
# Options that every command has; said once, at the top of the page.
COMMON = ("--json", "--verbose", "--log-format")

CONFIGURATION_HEAD = """# Configuration

{note}
A run is one YAML file. Start from `configs/pocket.yaml`, or for another base from one of [these files](../../README.md#bases).
Only `style.name` and `style.source` are required:

```yaml
style:
  name: my-style
  source: data/my-style
```

- Commands accept a path or a name. A name refers to a file in the current folder, or else to a configuration shipped with StyleForge
  (`styleforge run pocket`).
- `extends: sd15` (a name, or a path relative to the file's own folder) builds on another file, so that yours contains only the
  differences. Sections are merged; lists and single values are replaced. It also works in comparisons and gates.
- `--set a.b=value` overrides one setting; repeat it for more. The value of a text field is taken literally, any other is parsed as YAML.
- Unknown keys are rejected, with the nearest known key as a suggestion. Values of the wrong type or out of bounds are rejected too.
- `styleforge config CONFIG` prints the run with every default filled in.
- Relative paths start from the current folder.

Rules that concern more than one field:

- `method.instance_prompt` must contain `{{token}}`, the place of the identifier.
- `sampling.style_template` must contain `{{token}}` and `{{prompt}}`.
- `sampling.plain_template` must contain `{{prompt}}` but not `{{token}}`.
- A hub id needs a pinned commit: `base.model` needs `base.revision`, `scoring.extractor` needs `scoring.extractor_revision`, and
  `captions.model` needs `captions.revision`.
- With `captions.model`, a prompt of the method must contain `{{caption}}`.
"""

COMPARISON_HEAD = """# Comparison

{note}
A comparison is one YAML file for `styleforge compare`: [how to](../how-to/compare.md). Start from `configs/compare-pocket-quick.yaml`.

- Unknown keys are rejected, with the nearest known key as a suggestion.
- `set` contains settings of the [configuration](configuration.md) by dotted name; null resets a setting to its default.
- A variant's `set` must not contain `seed`, settings of `style`, `base`, `scoring` and `registry`, or those of the bank (`sampling.bank`,
  `limit`, `repeats`, `batch_size`, `plain_template`). For a method, the sampler and `training.steps` are excluded too; for an ablation's
  variant, `training.steps` with `equal: compute`.
- The names in `like`, `better` and `than`, and the styles and seeds of an ablation, must be defined in this file.
"""

GATE_HEAD = """# Gate

{note}
A gate is one YAML file for `styleforge promote --gate`: [how to](../how-to/promote.md). Start from `configs/gate.yaml`, the default.

```yaml
rules:
  - {{metric: kid, against: base, at_most: 0.8}}
  - {{metric: clip_t, against: champion, at_least: 0.95}}
```

- Every rule compares one score of the model with one limit: either `at_most` or `at_least`.
- Without `against`, the limit is a score, in the units of [scores.json](files.md#scoresjson). With `against`, it is a multiple of the
  other model's score: `at_most: 0.8` means at most 0.8 times that score.
- All rules must pass. If there is no champion yet, rules against it pass.
"""

STACK_HEAD = """# Stack

{note}
A stack definition is one YAML file for `styleforge stack apply`: [how to](../how-to/stacks.md). `infra/stacks` contains three.

- Unknown keys, and settings that the flavor does not have, are rejected, with the nearest known key as a suggestion.
- `${{NAME}}` is the value of an environment variable; `${{NAME:-default}}` has a fallback for when it is unset. Settings that end up
  empty are omitted.
- `{{{{name.key}}}}` is a key of a ZenML secret. Secrets in plain text are rejected.
"""

CLI_HEAD = """# Commands

{note}
Results go to stdout; an error goes to stderr as one message. All commands use the same [exit codes](../operations.md#exit-codes).
Every command has `--help`.

These options are common to {common_to}:

| option | meaning |
| --- | --- |
{common}
"""


def configuration_page() -> str:
    """The reference of all settings, from the pydantic models."""
    schema = RunConfig.model_json_schema()
    parts = [CONFIGURATION_HEAD.format(note=NOTE.format(source="components/core/config/"))]
    top = {name: field for name, field in schema["properties"].items() if "$ref" not in field}
    sections = {name: field["$ref"].rpartition("/")[2] for name, field in schema["properties"].items() if "$ref" in field}
    parts.append(_section("Top level", "", {"properties": top, "required": schema.get("required", [])}))
    for name, kind in sections.items():
        parts += _sections(name, schema["$defs"][kind], schema["$defs"])
    return "\n".join(parts)


def _sections(name: str, schema: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    """A section, and those that lie inside it, each kind once: a field of their kind, a list of them, or some by name."""
    inner: dict[str, str] = {}
    for field, value in schema["properties"].items():
        places = {field: value, f"{field}[]": value.get("items", {}), f"{field}.*": value.get("additionalProperties", {})}
        for place, item in (*places.items(), *((field, option) for option in value.get("anyOf", ()))):
            if isinstance(item, Mapping) and (reference := item.get("$ref")) and reference not in inner.values():
                inner[place] = reference
    yield _section(f"`{name}`", f"{name}.", schema)
    for field, reference in inner.items():
        yield from _sections(f"{name}.{field}", known[reference.rpartition("/")[2]], known)


def comparison_page() -> str:
    """The reference of a comparison's keys, from the pydantic models."""
    schema = CompareConfig.model_json_schema()
    parts = [COMPARISON_HEAD.format(note=NOTE.format(source="components/core/comparison.py"))]
    parts.append(_section("Top level", "", schema))
    parts.append(_section("An entry of `styles`", "styles.", schema["$defs"]["StyleChoice"]))
    parts.append(_section("An entry of `methods`, or of an ablation's `variants`", "methods.", schema["$defs"]["Variant"]))
    parts.append(_section("An entry of `ablations`", "ablations.", schema["$defs"]["Ablation"]))
    parts.append(_section("An entry of `claims`", "claims.", schema["$defs"]["Claim"]))
    return "\n".join(parts)


def gate_page() -> str:
    """The reference of a gate's rules, from the pydantic models."""
    schema = GateConfig.model_json_schema()
    parts = [GATE_HEAD.format(note=NOTE.format(source="components/registry/gate.py"))]
    parts.append(_section("Top level", "", schema))
    parts.append(_section("An entry of `rules`", "rules.", schema["$defs"]["Rule"]))
    parts.append(_section("`rights`", "rights.", schema["$defs"]["RightsRule"]))
    return "\n".join(parts)


def stack_page() -> str:
    """The reference of a stack definition's keys, from the pydantic models."""
    schema = StackDefinition.model_json_schema()
    parts = [STACK_HEAD.format(note=NOTE.format(source="components/cluster/stacks.py"))]
    parts.append(_section("Top level", "", schema))
    parts.append(_section("`components`", "components.", schema["$defs"]["Components"]))
    parts.append(_section("A component", "components.*.", schema["$defs"]["Component"]))
    return "\n".join(parts)


def _section(title: str, prefix: str, schema: Mapping[str, Any]) -> str:
    lines = [f"## {title}", ""]
    if prefix and schema.get("description"):
        lines += [" ".join(schema["description"].split()), ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in schema["properties"].items():
        default = (
            ""
            if "$ref" in field
            else "required"
            if name in schema.get("required", [])
            else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
        )
        lines.append(_row(f"`{prefix}{name}`", kind_of(field), default, field.get("description", "")))
    return "\n".join(lines) + "\n"


def kind_of(field: Mapping[str, Any]) -> str:
    """A JSON schema's type in words: ``whole number, at least 1``."""
    if "$ref" in field:
        return "section, see below"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(kind_of(item) for item in field["anyOf"])
    if field["type"] == "array":
        if "prefixItems" in field:
            return f"list of {len(field['prefixItems'])}: " + ", ".join(kind_of(item) for item in field["prefixItems"])
        return f"list of {'sections, see below' if '$ref' in field['items'] else kind_of(field['items'])}"
    if field["type"] == "object":
        if isinstance(named := field.get("additionalProperties"), Mapping) and "$ref" in named:
            return "sections by name, see below"
        return str(field.get("words", "settings by dotted name"))
    words = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text", "null": "null"}
    return ", ".join([words[field["type"]], *_bounds(field)])


def _bounds(field: Mapping[str, Any]) -> Iterator[str]:
    for key, word in (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"), ("exclusiveMaximum", "below")):
        if key in field:
            yield f"{word} {field[key]:,g}" if isinstance(field[key], float) else f"{word} {field[key]:,}"
    if "pattern" in field:
        yield f"of the form `{field['pattern']}`"


def cli_page() -> str:
    """The reference of all commands, from the typer application."""
    commands = dict(walk_commands())
    with_common = [name for name, command in commands.items() if set(COMMON) <= set(_options(command))]
    common = {name: option for name, option in _options(commands[with_common[0]]).items() if name in COMMON}
    head = CLI_HEAD.format(
        note=NOTE.format(source="cli/app.py"),
        common_to="all commands" if len(with_common) == len(commands) else ", ".join(f"`{name}`" for name in with_common),
        common="\n".join(_row(_spelling(option), _help(option)) for option in common.values()),
    )
    return "\n".join([head, *(_command(name, command, skip=COMMON if name in with_common else ()) for name, command in commands.items())])


def walk_commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as ``styleforge pocket render``."""
    import typer.main

    from cli.app import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for part, below in command.commands.items():
                # What a group does without a word of its own goes by the group's name.
                yield from walk(name if part == getattr(command, "default", None) else f"{name} {part}", below)
        else:
            yield name, command

    yield from walk("styleforge", typer.main.get_command(app))


def _command(name: str, command: Any, skip: tuple[str, ...]) -> str:
    arguments = {_place(item): item for item in command.params if item.param_type_name == "argument"}
    options = [option for spelling, option in _options(command).items() if spelling not in skip]
    usage = " ".join([name, *arguments, "[OPTIONS]"])
    lines = [f"## `{name}`", "", " ".join((command.help or "").split()), "", "```text", usage, "```", ""]
    if arguments:
        lines += ["| argument | meaning |", "| --- | --- |", *(_row(f"`{place}`", _help(item)) for place, item in arguments.items()), ""]
    if options:
        lines += ["| option | meaning | default |", "| --- | --- | --- |"]
        lines += [*(_row(_spelling(option), _help(option), _default(option)) for option in options), ""]
    return "\n".join(lines)


def _place(argument: Any) -> str:
    return argument.metavar or argument.name.upper()


def _options(command: Any) -> dict[str, Any]:
    """The options by their long spelling."""
    options = [item for item in command.params if item.param_type_name == "option"]
    return {next((text for text in option.opts if text.startswith("--")), option.opts[0]): option for option in options}


def _spelling(option: Any) -> str:
    names = ", ".join(f"`{text}`" for text in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} `{option.metavar or _kind(option.type_descriptor.annotation)}`"


def _kind(annotation: Any) -> str:
    """What stands for an option's value: the choices, or the kind of value."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    annotation = next((item for item in get_args(annotation) if item is not type(None)), annotation)
    return {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}[annotation]


def _help(parameter: Any) -> str:
    return " ".join((getattr(parameter, "help", None) or "").replace("[required]", "").split())


def _default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    return "" if value is None or value is False else f"`{value}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def exit_codes() -> str:
    """What each exit status means, from the errors that have it."""
    from cli.options import INTERRUPTED

    meanings: dict[int, list[str]] = {1: ["Anything unexpected."]}
    status = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.StyleForgeError) and kind is not errors.StyleForgeError:
            meanings.setdefault(kind.exit_code, []).append((kind.__doc__ or "").splitlines()[0])
            status[kind.exit_code] = kind.status
    rows = [(0, "Done.", "completed"), *((code, " ".join(lines), status[code]) for code, lines in sorted(meanings.items()))]
    rows.append((INTERRUPTED, "Interrupted by Ctrl-C or SIGTERM; run the same command again to continue where it stopped.", "failed"))
    return _table("code | meaning | `status` in JSON", [(str(code), meaning, f"`{word}`") for code, meaning, word in rows])


def steps_table() -> str:
    """What each step does: from the first line of its file, ``Step: ...``, or from the list of steps there, ``- ``name``: ...``."""
    texts: dict[str, str] = {}
    for file in (ROOT / "steps").rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        texts[file.stem] = docstring.partition("\n")[0].partition(": ")[2]
        texts |= dict(re.findall(r"^- ``(\w+)``: (.+)$", docstring, re.M))
    rows: dict[str, list[str]] = {}
    for name in STEPS:
        # The gate and what it lets pass are one file.
        text = texts[{"judge": "promote"}.get(name, name)]
        rows.setdefault(text[:1].upper() + text[1:], []).append(f"`{name}`")
    return _table("step | what it does", [(", ".join(names), text) for text, names in rows.items()])


def home_table() -> str:
    """What lies in the home, from the one place that says so."""
    return _table("folder | content | if you remove it", [(f"`{name}/`", content, removed) for name, (content, removed) in HOME.items()])


def families_table() -> str:
    """The families of real art, with their rights."""
    rows = [
        (f"`{item.name}`", item.look, item.license, f"[{item.author}]({item.source})", f"`{item.pinned}`") for item in FAMILIES.values()
    ]
    return _table("family | look | licence | author | package", rows)


CONFIGURATIONS = {
    "StableDiffusionPipeline": ("sd15", "sd21"), "StableDiffusionXLPipeline": ("sdxl",), "StableDiffusion3Pipeline": ("sd35-medium",),
    "FluxPipeline": ("flux-dev",), "Flux2KleinPipeline": ("flux2-klein",), "ZImagePipeline": ("z-image",),
}  # fmt: skip
"""Those that ship for a family, by its pipeline."""
CARDS = (4, 6, 8, 10, 12, 16, 24, 32, 40, 48, 80)
"""Memory of GPUs as they are sold, in GB."""


def bases_table() -> str:
    """The families of bases, and what works with each."""
    rows = [(layout.title, *_works(layout)) for layout in LAYOUTS.values()]
    return _table("base | start from | methods | text encoders train | one file | heat maps | a LoRA fits", rows)


def _works(layout: Layout) -> Iterator[str]:
    trains = bool(layout.ways & TEXT_WAYS)
    left_out = [name for name, row in METHODS.items() if layout.lacks(row.trains)]
    names = CONFIGURATIONS.get(layout.pipeline, ())
    # The least that each configuration takes, of those the most: the row is for all of the family's bases.
    least = [min(row.size for row in shipped() if row.configuration == name) for name in names]
    yield ", ".join(f"[`{name}`](configs/{name}.yaml)" for name in names) or "a file of your own"
    yield f"all but {', '.join(left_out)}" if left_out else "all"
    yield "yes" if trains else "no"
    kinds = [kind for kind in FILE_KINDS if kind.layout is layout]
    yield (
        "no"
        if not kinds
        else "yes"
        if all(kind.configuration for kind in kinds)
        else "some"
        if any(kind.configuration for kind in kinds)
        else "with a folder"
    )
    yield "yes" if "denoiser.cross-attention" in layout.ways else "no"
    yield smallest_card(max(least)) if least else "ask `styleforge plan`"


def smallest_card(need: int) -> str:
    """The smallest GPU that can give ``need`` bytes."""
    return f"{next(card for card in CARDS if gpu_memory(f'{card}GB').usable >= need)} GB"


def settings_table() -> str:
    """The settings keys of zenml.yaml, with ZenML's model of each."""
    return _table("settings key | ZenML's model", [(f"`{key}`", f"`{model}`") for key, (_, model) in SETTINGS.items()])


def _table(head: str, rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join([f"| {head} |", "|" + " --- |" * len(head.split(" | ")), *(_row(*row) for row in rows)])


BLOCKS = {
    "exit-codes": exit_codes,
    "steps": steps_table,
    "step-names": lambda: "Steps: " + ", ".join(f"`{name}`" for name in STEPS) + ".",
    "settings-keys": settings_table,
    "home": home_table,
    "families": families_table,
    "bases": bases_table,
}


def _filled(page: Path) -> str:
    """A page with its generated blocks as the code has them now."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{BLOCKS[match[2]]()}\n\n<!-- end -->"

    return re.sub(r"(<!-- generated: ([\w-]+) -->).*?<!-- end -->", fill, page.read_text(encoding="utf-8"), flags=re.S)


PAGES: dict[Path, Callable[[], str]] = {
    REFERENCE / "configuration.md": configuration_page,
    REFERENCE / "comparison.md": comparison_page,
    REFERENCE / "gate.md": gate_page,
    REFERENCE / "stack.md": stack_page,
    REFERENCE / "cli.md": cli_page,
    **{ROOT / "docs" / name: partial(_filled, ROOT / "docs" / name) for name in PARTLY},
}


def stale() -> list[Path]:
    """The generated pages whose text is not what the code says now."""
    return [path for path, page in PAGES.items() if not path.is_file() or path.read_text(encoding="utf-8") != page()]


def main() -> int:
    """Write the pages, or only look at them."""
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/reference/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    outdated = stale()
    if parser.parse_args().check:
        for path in outdated:
            print(f"{path.resolve().relative_to(ROOT)} is stale: run `make docs`", file=sys.stderr)
        return 1 if outdated else 0
    for path in outdated:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGES[path](), encoding="utf-8")
        print(path.resolve().relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
