"""ZenML stack definitions as files: what a stack is made of, checked before it is passed to ZenML."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from components.core.config import Section, read_yaml_mapping, validate_model
from components.core.errors import ConfigError, InputError
from components.core.overrides import apply_overrides
from components.core.paths import REPOSITORY
from components.core.suggest import did_you_mean
from components.core.yaml_text import expand

DEFINITIONS = REPOSITORY / "infra" / "stacks"
DEFAULT = "default"
"""Name of ZenML's own stack and of its components, which cannot be changed."""
REFERENCE = "docs/reference/stack.md"


def _not_zenmls(name: str) -> str:
    if name == DEFAULT:
        raise ValueError("is ZenML's own, which cannot be changed; expected another name")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255), AfterValidator(_not_zenmls)]
_SECRET = re.compile(r"\{\{\s*\S+?\.\S+\s*\}\}")
_SECRET_WORDS = re.compile(r"(secret_access_key|token|passw(or)?d|api_key|private_key|(?<!authentication_)secret)$", re.IGNORECASE)


class Component(Section):
    """A component of a stack."""

    name: Name | None = Field(
        None,
        description="Name in ZenML; default: the stack's. Stacks with the same component name share the component.",
        examples=["styleforge-s3"],
    )
    flavor: str = Field(min_length=1, description="ZenML's flavor of the component, such as `kubernetes` or `s3`.")
    configuration: dict[str, Any] = Field(
        {}, description="Settings of the flavor. A value that `${NAME:-}` leaves empty is omitted.",
        json_schema_extra={"words": "mapping"},
    )  # fmt: skip


class Components(Section):
    """The components of a stack."""

    orchestrator: Component = Field(description="Where steps run.")
    artifact_store: Component = Field(description="Where artifacts are stored.")
    container_registry: Component | None = Field(
        None, description="Where container images are stored. ZenML requires one if steps run as pods."
    )
    image_builder: Component | None = Field(None, description="What would build container images. ZenML requires one if steps run as pods.")
    step_operator: Component | None = Field(None, description="Where single steps run instead of on the orchestrator.")


class StackDefinition(Section):
    """A ZenML stack."""

    name: Name = Field(description="Name of the stack in ZenML; must not be `default`.")
    components: Components = Field(description="Components of the stack.")

    def parts(self) -> Iterator[tuple[str, str, Component]]:
        """Type, name in ZenML, and definition of each part."""
        for kind in Components.model_fields:
            component: Component | None = getattr(self.components, kind)
            if component is not None:
                yield kind, component.name or self.name, component


def definitions() -> list[str]:
    """Names of the definitions that ship with the project."""
    return sorted(path.stem for path in DEFINITIONS.glob("*.yaml"))


def load_stack(name_or_file: str, overrides: Sequence[str] = ()) -> StackDefinition:
    """Read a definition by name or file, apply ``a.b=value`` overrides, and only then fill in variables, which overrides may replace.

    InputError if there is no such definition or it is not YAML; ConfigError for a wrong key, an unset variable, or a password in plain
    text.
    """
    path = _find(name_or_file)
    data = read_yaml_mapping(path)
    data = apply_overrides(data, overrides, StackDefinition, "components.orchestrator.configuration.synchronous=false")
    filled = _filled(data, str(path))
    definition = validate_model(StackDefinition, filled, str(path), remedy=f"see {REFERENCE}")
    _check(definition, path)
    return definition


def is_secret_reference(value: Any) -> bool:
    """Whether a value is ``{{name.key}}``, a key of a ZenML secret."""
    return isinstance(value, str) and bool(_SECRET.fullmatch(value))


def _find(name_or_file: str) -> Path:
    shipped = DEFINITIONS / f"{name_or_file}.yaml"
    if "/" not in name_or_file and shipped.is_file():
        return shipped
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    problem = f"no such stack definition{did_you_mean(name_or_file, definitions())}"
    raise InputError(name_or_file, problem, expected=f"{', '.join(definitions())}, or a YAML file")


def _filled(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping with variables filled in, without the values that this makes empty and the mappings that have no others."""
    result: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            below = _filled(value, where)
            if below or not value:
                result[key] = below
        elif (filled := expand(value, where)) != "" or value == "":
            result[key] = filled
    return result


def _check(definition: StackDefinition, path: Path) -> None:
    for kind, _, component in definition.parts():
        for key, setting in component.configuration.items():
            outer = f"components.{kind}.configuration.{key}"
            for field, value in _leaves(setting, outer):
                _check_value(path, field, value, nested=field != outer)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Each scalar with its dotted path, in which an environment variable of a pod goes by its name."""
    if isinstance(value, Mapping) and {"name", "value"} == set(value):
        yield f"{place}.{value['name']}", value["value"]
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{place}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{place}.{number}")
    else:
        yield place, value


def _check_value(path: Path, field: str, value: Any, *, nested: bool) -> None:
    """Refuse what would store a secret in plain text in ZenML's database. No message repeats the value."""
    if not isinstance(value, str):
        return
    if is_secret_reference(value):
        if nested:
            raise ConfigError(str(path), f"{field}: ZenML fills in a secret only one level below configuration", expected="it there")
    elif "@" in urlsplit(value).netloc:
        raise ConfigError(str(path), f"{field} holds a user name or password", expected="a ZenML secret, as {{name.key}}")
    elif _SECRET_WORDS.search(field):
        raise plain_secret(path, field)


def plain_secret(path: str | Path, field: str) -> ConfigError:
    """The error for a field that must hold a reference to a secret and holds something else."""
    return ConfigError(
        str(path), f"{field} is a secret in plain text", expected="{{name.key}}, a key of a ZenML secret",
        remedy="make one with `zenml secret create`",
    )  # fmt: skip
