"""Content digests and derived random streams: everything is keyed by content, and every consumer has its own stream."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_value(value: Any) -> str:
    """sha256 of a JSON value in canonical form (sorted keys, no whitespace), as hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_folder(folder: Path, skip: Callable[[Path], bool] = lambda name: False) -> str:
    """sha256 of the sorted relative paths and contents of a folder's files, as hex; ``skip`` says which relative paths to leave out."""
    folder = Path(folder)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return digest_value([[name.as_posix(), digest_file(folder / name)] for name in names if not skip(name)])


def derive_seed(seed: int, purpose: str, *ids: object) -> int:
    """A 63-bit seed for one consumer: a hash of the run seed, its purpose and its ids, so the order of calls never matters."""
    text = json.dumps([int(seed), purpose, *[str(part) for part in ids]])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
