"""``styleforge art`` and ``styleforge measures`` over drawings that the test makes."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli.app import app
from tests.made_art import Registry, registry

__all__ = ["registry"]


def _call(*arguments: str) -> tuple[int, dict[str, Any], str]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout.splitlines()[-1]), result.stdout + result.stderr


def test_from_nothing_to_a_style_set(registry: Registry, tmp_path: Path) -> None:
    code, answer, said = _call("art", "list")
    assert code == 0 and not any(row["here"] for row in answer["families"])
    assert "styleforge art fetch" in said and registry.calls == []

    out = tmp_path / "set"
    code, answer, said = _call("art", "render", "--family", "lines", "--out", str(out))
    assert code == 2 and "styleforge art fetch" in answer["error"]["remedy"]
    assert registry.calls == [] and not out.exists()

    code, answer, said = _call("art", "fetch", "--family", "lines", "--family", "boxes")
    assert code == 0 and len(answer["new"]) == 3 == len(registry.calls)
    assert "downloading @iconify-json/lines@1.0.0 (MIT, Ann)" in said

    code, answer, said = _call("art", "list")
    assert [row["pictures"] for row in answer["families"]] == [30, 30, 30]

    code, answer, said = _call(
        "art", "render", "--family", "lines", "--out", str(out), "--size", "32", "--pool", "4", "--pool-family", "boxes"
    )
    assert code == 0 and answer["pictures"] == {"style_ref": 20, "reference": 10, "aux_pool": 4}
    assert len(list((out / "aux_pool").glob("boxes-*.png"))) == 4

    families = ("--family", "lines", "--family", "boxes", "--family", "noto")
    code, answer, said = _call("measures", "pocket", *families, "--concepts", "8", "--size", "32")
    assert code == 0 and answer["extractors"][0]["reads"] == "style"
    assert "n = 24: 8 concepts × 3 families" in said and "chance 33.3 %" in said


def test_unknown_family(registry: Registry, tmp_path: Path) -> None:
    code, answer, _ = _call("art", "render", "--family", "nobody", "--out", str(tmp_path / "set"))
    assert code == 2 and "any of noto, lines, boxes" in answer["error"]["expected"]
