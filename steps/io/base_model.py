"""The base as steps receive it: its configuration section plus the digest of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.core.config import BaseSection

if TYPE_CHECKING:
    from components.diffusion.models.bundle import Bundle


def base_section(base: dict[str, Any]) -> BaseSection:
    """Return the section without the digest."""
    return BaseSection(**{key: value for key, value in base.items() if key != "digest"})


def load_base(base: dict[str, Any]) -> Bundle:
    """Load the base for drawing."""
    from components.diffusion.models.bundle import load_bundle

    section = base_section(base)
    return load_bundle(section.model, section.revision, memory=section)
