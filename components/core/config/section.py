"""What all sections of a configuration have in common."""

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

PositiveInt = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are frozen, defaults are validated.

    Where text is expected, a number is read as text; where a list is expected, a single word or number is read as a list of one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        lists = any(get_origin(kind) is tuple for kind in (annotation, *get_args(annotation)))
        return (value,) if lists and isinstance(value, str | int | float) else value
