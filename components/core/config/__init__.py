"""The configuration of a run: typed sections, and how they are read from YAML."""

from components.core.config.examine import ExamineSection
from components.core.config.files import builtin_config, config_text, find_config, read_config, read_yaml_mapping
from components.core.config.guidance import PLAIN, BranchSection, GuidanceSection, TermSection
from components.core.config.method import ConceptSection, LoraSection, LossSection, MethodName, MethodSection
from components.core.config.run import RunConfig, load_config, parse_config
from components.core.config.section import PositiveInt, Probability, Section
from components.core.config.sections import (
    AS_SCORED,
    SAMPLER,
    AuxSection,
    BaseSection,
    CaptionsSection,
    Place,
    PrecisionSection,
    SamplingSection,
    ScoringSection,
    StyleSection,
    TimesSection,
    TrainingSection,
    TransformName,
)
from components.core.config.selection import Limit, SelectionSection
from components.core.config.validation import explain, validate_model

__all__ = [
    "AS_SCORED", "PLAIN", "SAMPLER", "AuxSection", "BaseSection", "BranchSection", "CaptionsSection", "ConceptSection", "ExamineSection",
    "GuidanceSection", "Limit", "LoraSection", "LossSection", "MethodName", "MethodSection", "Place", "PositiveInt", "PrecisionSection",
    "Probability", "RunConfig", "SamplingSection", "ScoringSection", "Section", "SelectionSection", "StyleSection", "TermSection",
    "TimesSection", "TrainingSection", "TransformName", "builtin_config", "config_text", "explain", "find_config", "load_config",
    "parse_config", "read_config", "read_yaml_mapping", "validate_model",
]  # fmt: skip
