"""What the documentation names must exist: pages, files, settings, commands, options."""

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from components.cluster.stacks import StackDefinition, load_stack
from components.core.comparison import load_comparison
from components.core.config import RunConfig, load_config, parse_config, validate_model
from components.core.errors import InputError
from components.core.paths import FLOORS, REPOSITORY
from components.registry.gate import GateConfig, load_gate
from docs import generate

PAGES = [*(REPOSITORY / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
FOLDERS = (*FLOORS, "configs", "docs", "tests", "benchmarks", "infra")
SECTIONS = [name for name in RunConfig.model_fields if name != "seed"]
SETTINGS = set(parse_config({"style": {"name": "a", "source": "b"}}).flat())
COMMANDS = dict(generate.walk_commands())
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())


def _blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def _code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", _prose(page))


def _command_lines(page: Path) -> Iterator[list[str]]:
    for block in _blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line.partition(" | ")[0].partition(" > ")[0], comments=True):
                yield words


def test_generated_pages_are_current(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_setting_and_every_option_has_a_meaning() -> None:
    rows = [row for page in (generate.configuration_page(), generate.cli_page()) for row in page.splitlines() if row.startswith("| `")]
    assert len(rows) > len(SETTINGS)
    assert [row for row in rows if re.match(r"\| `[^|]*(\\\|[^|]*)*\| *\|", row)] == []


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for file, anchor in _links(page):
        assert file.exists(), f"{page.name} links to {file}"
        headings = re.findall(r"^#+ (.+)$", _prose(file), re.M) if anchor else []
        assert anchor in {"", *(re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings)}, anchor


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [PAGES[0]]
    while waiting:
        if (page := waiting.pop()) not in reached:
            reached.add(page)
            waiting += [file for file, _ in _links(page) if file.suffix == ".md"]
    assert set(PAGES) <= reached


@by_page
def test_what_is_named_exists(page: Path) -> None:
    # Sections inside of sections, such as method.lora, are named too.
    known = SETTINGS | {name.rpartition(".")[0] for name in SETTINGS}
    groups = {group + end for name in COMMANDS for group in [name.rpartition(" ")[0]] for end in ("", " --help")}
    targets = [words[1:] for words in _command_lines(page) if words[0] == "make"]
    for span in _code_spans(page):
        words = span.split()
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]*", span):
            assert (REPOSITORY / span).exists(), span
        if test := re.fullmatch(r"(tests/[\w/]+\.py)::(\w+)", span):
            assert f"def {test[2]}(" in (REPOSITORY / test[1]).read_text(encoding="utf-8"), span
        setting = re.match(rf"(({'|'.join(SECTIONS)})\.[a-z_]+)\b(?!\.)", span)
        assert setting is None or setting[1].endswith(".json") or setting[1] in known, span
        if words[0] == "styleforge" and span not in groups:
            name, rest = _find(words)
            spellings = {"--help", *(text for parameter in COMMANDS[name].params for text in [*parameter.opts, *parameter.secondary_opts])}
            assert {word for word in rest if word.startswith("-")} <= spellings, span
        targets += [shlex.split(span)[1:]] if span.startswith("make ") else []
    assert {next(word for word in words if "=" not in word) for words in targets} <= TARGETS


@by_page
def test_yaml_is_what_it_looks_like(page: Path, tmp_path: Path) -> None:
    from orchestration.settings import check_settings

    for block in _blocks(page, "yaml"):
        data = yaml.safe_load(block)
        if data.keys() <= RunConfig.model_fields.keys():
            # A page may show some sections alone.
            parse_config({"style": {"name": "x", "source": "x"}, **data}, where=page.name)
        elif "rules" in data:
            validate_model(GateConfig, data, page.name)
        elif "components" in data:
            validate_model(StackDefinition, data, page.name)
        else:
            (tmp_path / "zenml.yaml").write_text(block)
            check_settings(tmp_path / "zenml.yaml")


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda file: file.name)
def test_configurations_that_ship_are_valid(file: Path) -> None:
    _load(file)


def _load(file: Path, overrides: Sequence[str] = ()) -> None:
    """A file in configs/ is a run, or by its name a comparison or a gate."""
    if file.name == "gate.yaml":
        load_gate(file)
    elif file.name.startswith("compare-"):
        assert load_comparison(file, overrides).cells()
    else:
        load_config(file, overrides)


def _find(words: list[str]) -> tuple[str, list[str]]:
    for count in range(len(words), 0, -1):
        if (name := " ".join(words[:count])) in COMMANDS:
            return name, words[count:]
    raise AssertionError(f"no such command: {' '.join(words)}")


@by_page
def test_command_lines_and_their_overrides_are_taken(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_BUCKET", "bucket")
    monkeypatch.setenv("STYLEFORGE_KUBE_CONTEXT", "context")
    for words in _command_lines(page):
        if words[0] == "styleforge":
            name, rest = _find(words)
            COMMANDS[name].make_context(name, list(rest))
        overrides = [value for option, value in itertools.pairwise(words) if option == "--set"]
        if words[:3] == ["styleforge", "stack", "apply"]:
            load_stack(words[3], overrides)
        else:
            files = (REPOSITORY / "configs" / f"{word}.yaml" for word in words)
            _load(next((file for file in files if file.is_file()), REPOSITORY / "configs" / "pocket.yaml"), overrides)


def test_manifest_fields_are_those_of_the_code() -> None:
    from components.styledata.manifest import ImageEntry

    assert _first_column("reference/files.md", "| manifest field |") == [field.name for field in fields(ImageEntry)]


def test_keys_of_the_result_are_those_of_the_code() -> None:
    from orchestration.outcome import RunResult

    named = set(_first_column("operations.md", "\n| key | content |\n"))
    assert named - {"base_scores"} == set(RunResult(error=InputError("a", "b")).as_dict()) - {"base_scores"}


def _first_column(page: str, head: str) -> list[str]:
    table = (REPOSITORY / "docs" / page).read_text(encoding="utf-8").partition(head)[2].partition("\n\n")[0]
    return [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])]


def test_memory_of_the_bases_is_what_is_planned() -> None:
    """The table and the configurations' comments are written by hand; ``tests/orchestration/test_shipped.py`` holds sizes to the plan."""
    rows = {(row.configuration, row.settings): generate.smallest_card(row.size) for row in generate.shipped()}
    plain = {name for name, settings in rows if not settings}
    page = (REPOSITORY / "docs" / "how-to" / "real-base.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"\| `configs/([\w-]+)\.yaml`[^|]*\| ([^|]+) \|", page))
    assert set(told) == plain
    for name, memory in told.items():
        least, *other = memory.split(", ")
        assert least == rows[name, ()]
        for size, precision in (item.split(" with ") for item in other):
            assert size == rows[name, (f"base.precision={precision}",)]
        comment = re.search(
            r"Memory by `styleforge plan`: (\d+ GB)(?:, (\d+ GB) with base\.precision)?", Path(f"configs/{name}.yaml").read_text()
        )
        if comment:
            assert [size for size in comment.groups() if size] == [item.split(" with ")[0] for item in memory.split(", ")]
