"""Write one archive of images that share layers, as `ctr images import` and `docker load` read it. Needs no container tool.

    pack.py OUT.tar < IMAGES.json

An archive that holds the same already stays as it is, so that it is not imported again.
IMAGES.json: {"name:tag": {"layers": ["base.tar", ...], "config": {"Entrypoint": [...], "Env": ["A=b", ...], "User": "10001", ...}}, ...}
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path


def main() -> None:
    """Write the archive that the arguments and stdin describe."""
    out = Path(sys.argv[1])
    images = json.load(sys.stdin)
    layers = {path: f"{digest(path)}.tar" for path in sorted({path for image in images.values() for path in image["layers"]})}
    manifest, configs = [], {}
    for name, image in images.items():
        config = described(image["config"], [layers[path].removesuffix(".tar") for path in image["layers"]])
        file = f"{hashlib.sha256(config).hexdigest()}.json"
        configs[file] = config
        manifest.append({"Config": file, "RepoTags": [name], "Layers": [layers[path] for path in image["layers"]]})
    index = json.dumps(manifest).encode()
    if out.is_file() and index_of(out) == index:
        return
    fresh = out.with_suffix(".new")
    with tarfile.open(fresh, "w") as archive:
        for file, content in {"manifest.json": index, **configs}.items():
            put(archive, file, content)
        for path, name in layers.items():
            archive.add(path, name)
    os.replace(fresh, out)


def index_of(out: Path) -> bytes:
    """What an archive of ours says about its images; nothing of another's."""
    with tarfile.open(out) as archive:
        first = archive.next()
        file = archive.extractfile(first) if first and first.name == "manifest.json" else None
        return file.read() if file else b""


def digest(path: str) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(config: dict[str, object], digests: list[str]) -> bytes:
    """An image's configuration; ``digests`` are those of its layers, the lowest first."""
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": config, "rootfs": rootfs}).encode()


def put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
