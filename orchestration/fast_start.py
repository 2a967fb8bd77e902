"""Makes ZenML's start cheap on one machine: it would import every installed framework and start pip in every step."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

BUILT_IN = "built-in"


@contextmanager
def lightweight_zenml() -> Iterator[None]:
    """Within the block ZenML lists packages without a subprocess and, on a stack of built-in parts, loads no integrations.

    Integrations bring materializers for torch, pandas and the like, which costs seconds: our artifacts are folders with one of their own.
    """
    from zenml.environment import Environment
    from zenml.integrations.registry import integration_registry

    packages = Environment.__dict__["get_python_packages"]
    Environment.get_python_packages = staticmethod(installed_packages)  # type: ignore[method-assign]
    local = _built_in_stack()
    if local:
        integration_registry.activate_integrations = lambda: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Environment.get_python_packages = packages  # type: ignore[method-assign]
        if local:
            del integration_registry.activate_integrations


def installed_packages() -> list[str]:
    """All installed distributions as ``name==version``, sorted: what ``pip freeze`` would say of released packages."""
    found = {(item.name, item.version) for item in importlib.metadata.distributions() if item.name}
    return sorted(f"{name}=={version}" for name, version in found)


def _built_in_stack() -> bool:
    from zenml.client import Client

    components = [item for parts in Client().active_stack_model.components.values() for item in parts]
    return all(item.flavor.integration in (None, BUILT_IN) for item in components)
