import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs import generate
from tests.infra.ci.forges import BOT, TOKEN, Forge, serve_forge
from tests.infra.ci.workflows import SCRIPTS, Runner, github_steps, plain_environment

PULL_REQUEST = "style-pull-request.yml"
MARKER = "<!-- styleforge: this comment is written anew by each run -->"


def run(script: str, *arguments: str, folder: Path, code: int = 0, **environment: str) -> str:
    """Run one of our scripts; what it printed, after checking its exit code."""
    program = [sys.executable] if script.endswith(".py") else ["bash"]
    known = plain_environment() | {"HOME": str(folder)} | environment
    done = subprocess.run([*program, str(SCRIPTS / script), *arguments], cwd=folder, env=known, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A team's repository with two styles, a file beside them, and the checkout of StyleForge where the workflows put it."""
    for name in ("anime", "cubism"):
        (tmp_path / "styles" / name).mkdir(parents=True)
        (tmp_path / "styles" / name / "config.yaml").write_text(f"style: {{name: {name}, source: x}}\n")
    (tmp_path / "styles" / "README.md").write_text("ours\n")
    (tmp_path / "styleforge").symlink_to(SCRIPTS.parents[2])
    (tmp_path / ".gitignore").write_text("/styleforge\n*.txt\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def _change(team: Path, *files: str) -> None:
    for name in files:
        (team / name).parent.mkdir(parents=True, exist_ok=True)
        (team / name).write_text("changed")
    git(team, "add", ".")
    git(team, "commit", "-qm", "second")


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        (["styles/anime/style_ref/a b é.png"], ["anime"]),
        (["styles/cubism/config.yaml", "styles/anime/x"], ["anime", "cubism"]),
        (["styles/README.md", "other/config.yaml"], []),
        (["styles/new/config.yaml"], ["new"]),
        (["styles/half/picture.png"], []),
    ],
)
def test_styles_with_a_change_are_listed(team: Path, files: list[str], listed: list[str]) -> None:
    base = git(team, "rev-parse", "HEAD")
    _change(team, *files)
    step = github_steps(PULL_REQUEST, "list")["List"]
    runner = Runner(team, plain_environment(), {"github.event.pull_request.base.sha": base})
    assert json.loads(runner.github(step)["configs"]) == [f"styles/{name}/config.yaml" for name in listed]


def test_a_removed_style_is_not_listed_and_what_main_got_meanwhile_is_not_ours(team: Path) -> None:
    git(team, "checkout", "-qb", "work")
    git(team, "rm", "-qr", "styles/anime")
    _change(team, "styles/new/config.yaml")
    git(team, "checkout", "-q", "main")
    _change(team, "styles/cubism/config.yaml")
    git(team, "checkout", "-q", "work")
    assert json.loads(run("list-styles.sh", "main", "work", folder=team)) == ["styles/new/config.yaml"]
    assert json.loads(run("list-styles.sh", folder=team)) == ["styles/cubism/config.yaml", "styles/new/config.yaml"]


@pytest.mark.parametrize("name", ['a"b', "a b", "$(touch x)", "a;b"])
def test_a_name_that_a_shell_could_read_otherwise_is_refused(team: Path, name: str) -> None:
    (team / "styles" / name).mkdir()
    (team / "styles" / name / "config.yaml").write_text("x")
    assert "letters, digits" in run("list-styles.sh", folder=team, code=2)
    assert not (team / "x").exists()


def test_no_styles_at_all(tmp_path: Path) -> None:
    assert run("list-styles.sh", folder=tmp_path).strip() == "[]"


@pytest.fixture
def forge() -> Iterator[Forge]:
    with serve_forge() as made:
        yield made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, text in {"anime": "### anime\n\n![grid](grid.png)", "cubism": "### cubism\n\nrefused"}.items():
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "summary.md").write_text(text, encoding="utf-8")
    (tmp_path / "results" / "anime" / "grid.png").write_bytes(b"\x89PNG picture")
    return tmp_path / "results"


def _github(forge: Forge) -> dict[str, str]:
    return forge.github() | {"GITHUB_TOKEN": TOKEN, "PULL_REQUEST": "12", "PICTURES": "https://forge.example.org/raw/pictures/pr-12/77"}


def test_github_gets_one_comment_that_is_written_anew(forge: Forge, results: Path) -> None:
    # More than one page of other comments, and one that somebody wrote to be taken for ours.
    for number in range(120):
        forge.add(f"comment {number}")
    forge.add(f"{MARKER}\nnot ours")
    run("forge.py", "comment", str(results), folder=results, **_github(forge))
    assert "![grid](https://forge.example.org/raw/pictures/pr-12/77/anime/grid.png)" in forge.comments[-1]["body"]
    (results / "anime" / "summary.md").write_text("### anime, again", encoding="utf-8")
    run("forge.py", "comment", str(results), folder=results, **_github(forge))
    ours = [row["body"] for row in forge.comments if row["user"]["type"] == "Bot"]
    assert len(ours) == 1 and forge.writes == ["POST", "PATCH"] and forge.comments[120]["body"].endswith("not ours")
    assert ours[0].startswith(MARKER) and "### anime, again" in ours[0] and "### cubism" in ours[0]


def test_gitlab_gets_the_grid_and_one_note(forge: Forge, results: Path) -> None:
    forge.add(f"{MARKER}\nnot ours")
    for _ in range(2):
        run("forge.py", "comment", str(results), folder=results, **forge.gitlab())
    assert forge.writes == ["POST", "POST", "POST", "PUT"] and len(forge.comments) == 2
    assert "![grid](/uploads/2/grid.png)" in forge.comments[1]["body"] and forge.comments[1]["author"]["id"] == BOT
    assert b"\x89PNG picture" in forge.uploads[0] and b'filename="anime.png"' in forge.uploads[0]
    assert run("forge.py", "merge-request", folder=results, **forge.gitlab()).strip() == "12"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"GITHUB_TOKEN": "wrong"}, 4, "401"),
        ({"GITHUB_API_URL": "http://127.0.0.1:9"}, 4, "refused"),
        ({"PULL_REQUEST": ""}, 2, "PULL_REQUEST is not set"),
        ({"PICTURES": ""}, 2, "PICTURES is not set"),
    ],
)
def test_a_comment_that_cannot_be_made_fails_the_job(forge: Forge, results: Path, change: dict[str, str], code: int, words: str) -> None:
    said = run("forge.py", "comment", str(results), folder=results, code=code, **{**_github(forge), **change})
    assert words in said and "wrong" not in said and forge.comments == []


def test_a_comment_without_any_summary_fails_the_job(forge: Forge, tmp_path: Path) -> None:
    assert "summary.md" in run("forge.py", "comment", str(tmp_path), folder=tmp_path, code=2, **_github(forge))


def test_a_long_comment_is_cut_to_what_forges_take(forge: Forge, results: Path) -> None:
    (results / "anime" / "summary.md").write_text("word " * 20_000, encoding="utf-8")
    run("forge.py", "comment", str(results), folder=results, **_github(forge))
    assert len(forge.comments[0]["body"]) < 65_536 and "cut off" in forge.comments[0]["body"]


def _push(results: Path, remote: Path, place: str, serial: str, code: int = 0) -> str:
    places = {"RESULTS": str(results), "BRANCH": "pictures", "PLACE": place, "SERIAL": serial, "REMOTE": str(remote)}
    return run("push-pictures.sh", folder=results, code=code, **places)


def test_pictures_are_alone_on_their_branch_and_replaced(team: Path, results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    remote = tmp_path_factory.mktemp("remote")
    git(remote, "clone", "-q", "--bare", str(team), "styles.git")
    remote /= "styles.git"
    _push(results, remote, "pr-12", "1")
    _push(results, remote, "pr-13", "2")
    _push(results, remote, "pr-12", "3")
    _push(results, remote, "pr-12", "3")
    files = git(remote, "ls-tree", "-r", "--name-only", "pictures").splitlines()
    assert files == ["pr-12/3/anime/grid.png", "pr-13/2/anime/grid.png"]
    assert git(remote, "cat-file", "-s", "pictures:pr-12/3/anime/grid.png") == str((results / "anime" / "grid.png").stat().st_size)
    assert git(remote, "rev-list", "--count", "pictures") == "3"
    assert subprocess.run(["git", "merge-base", "main", "pictures"], cwd=remote, capture_output=True).returncode == 1


def test_a_push_that_is_refused_fails_the_job(results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    remote = tmp_path_factory.mktemp("remote")
    git(remote, "init", "-q", "--bare", ".")
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    # The script waits longer after each of its tries; here it need not.
    (results / "bin").mkdir()
    (results / "bin" / "sleep").write_text("#!/bin/sh\n")
    (results / "bin" / "sleep").chmod(0o755)
    path = f"{results / 'bin'}:{plain_environment()['PATH']}"
    places = {"RESULTS": str(results), "BRANCH": "pictures", "PLACE": "pr-1", "SERIAL": "1", "REMOTE": str(remote), "PATH": path}
    assert "could not be pushed" in run("push-pictures.sh", folder=results, code=4, **places)


# The jobs, with a command that only writes down what it is asked

STYLEFORGE = """#!/usr/bin/env python3
import json, os, sys
name, *words = sys.argv[1:]
with open("asked.jsonl", "a") as file:
    file.write(json.dumps([name, words, os.environ.get("ZENML_CONFIG_PATH", "")]) + "\\n")
if name == "summary":
    folder = words[words.index("--out") + 1]
    open(f"{folder}/summary.md", "w").write("### anime")
rows = [{"name": "styleforge-anime", "aliases": ["pr-12", "mr-12"]}]
answers = {"run": {"model": {"name": "styleforge-anime", "version": "3"}}, "models": {"models": rows}}
print("for people")
print(json.dumps(answers.get(name, {})))
sys.exit(int(os.environ.get(f"CODE_{name}", 0)))
"""


@pytest.fixture
def stub(team: Path) -> dict[str, str]:
    """The environment of a job in the team's repository whose ``styleforge`` is a stub; CODE_run and the like are its exit codes."""
    (team / "bin").mkdir()
    (team / "bin" / "styleforge").write_text(STYLEFORGE)
    (team / "bin" / "styleforge").chmod(0o755)
    known = plain_environment()
    return known | {"PATH": f"{team / 'bin'}:{known['PATH']}", "HOME": str(team), "GITHUB_RUN_ID": "77", "GITHUB_SERVER_URL": "https://f",
                    "GITHUB_REPOSITORY": "team/styles"}  # fmt: skip


COMMANDS = dict(generate.walk_commands())


def _asked(team: Path) -> list[Any]:
    """What the command was called with: its name, arguments that the real one takes, and ZenML's folder."""
    file = team / "asked.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.unlink()
    for name, words, _ in lines:
        COMMANDS[f"styleforge {name}"].make_context(name, list(words))
    return lines


@pytest.mark.parametrize(
    ("codes", "code", "commands"),
    [
        ({}, 0, ["run", "promote", "summary"]), ({"CODE_promote": "3"}, 3, ["run", "promote", "summary"]),
        ({"CODE_run": "4"}, 4, ["run", "summary"]),
    ],
)  # fmt: skip
def test_a_pull_request_runs_its_style_and_asks_the_gate(
    team: Path, stub: dict[str, str], codes: dict[str, str], code: int, commands: list[str]
) -> None:
    step = github_steps(PULL_REQUEST, "run")["Run"]
    values = defaultdict(str, {"matrix.config": "styles/anime/config.yaml", "github.event.pull_request.number": "12",
                               "vars.STYLEFORGE_GATE": "mine.yaml", "secrets.ZENML_STORE_API_KEY": "ZENKEY_secret"})  # fmt: skip
    outputs = Runner(team, stub, values).github(step, code, **codes)
    asked = _asked(team)
    assert outputs == {"name": "anime"} and [name for name, _, _ in asked] == commands
    assert asked[0][1] == ["styles/anime/config.yaml", "--set", "registry.alias=pr-12", "--json"]
    if len(commands) == 3:
        assert asked[1][1] == ["--dry-run", "--gate", "mine.yaml", "--json", "--", "styleforge-anime/3"]
    assert "--link" in asked[-1][1] and (team / "results" / "anime" / "summary.md").is_file()
    # The key's folder is another one than the home, and gone afterwards.
    assert asked[0][2] and not Path(asked[0][2]).exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["--to", "champion", "--json", "--", "styleforge-anime@pr-12"]),
        ({"inputs.model": "--dry-run"}, ["--to", "champion", "--json", "--", "--dry-run"]),
        ({"inputs.model": "m/1", "inputs.to": "show", "inputs.force": "true", "inputs.reason": "a fair"},
         ["--to", "show", "--force", "--reason", "a fair", "--json", "--", "m/1"]),
        ({"github.event.pull_request.number": "99"}, None),
    ],
)  # fmt: skip
def test_a_merge_promotes_what_its_pull_request_trained(
    team: Path, stub: dict[str, str], given: dict[str, str], words: list[str] | None
) -> None:
    step = github_steps("promote.yml", "promote")["Promote"]
    Runner(team, stub, defaultdict(str, {"github.event.pull_request.number": "12", **given})).github(step)
    promotions = [asked for name, asked, _ in _asked(team) if name == "promote"]
    assert promotions == ([words] if words else [])


def test_gitlab_runs_comments_and_promotes(team: Path, stub: dict[str, str], forge: Forge) -> None:
    base = git(team, "rev-parse", "HEAD")
    _change(team, "styles/anime/x.png")
    runner = Runner(team, stub | forge.gitlab() | {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base})
    runner.gitlab("style", code=3, CODE_promote="3")
    assert [words[0] for name, words, _ in _asked(team) if name == "run"] == ["styles/anime/config.yaml"]
    runner.gitlab("comment")
    assert "### anime" in forge.comments[0]["body"] and forge.comments[0]["author"]["id"] == BOT
    runner.gitlab("promote")
    runner.gitlab("promote-by-hand", MODEL="m@mr-12", TO="show")
    promotions = [words for name, words, _ in _asked(team) if name == "promote"]
    assert promotions == [["--to", "champion", "--json", "--", "styleforge-anime@mr-12"], ["--to", "show", "--json", "--", "m@mr-12"]]
