"""The first gate: rules over the manifest, run by Great Expectations. A failed hard rule stops the run; a soft one warns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config.rights import RightsSection
from components.core.errors import GateRefused
from components.core.pages import thumbnail, write_page
from components.core.paths import atomic_folder, write_json
from components.styledata.manifest import SPLITS, Manifest
from components.styledata.rules import Rule, Severity, rules, table

if TYPE_CHECKING:
    import pandas

_THUMBNAIL = 96
_MOST_PICTURES = 60
"""Most thumbnails on a page, so that it stays small however much is wrong."""


@dataclass(frozen=True)
class Failure:
    """A file that breaks a rule, and how."""

    path: str
    reason: str


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule. ``failures`` is empty if the rule is about the whole set."""

    name: str
    severity: Severity
    passed: bool
    message: str
    failures: tuple[Failure, ...] = ()

    def describe(self) -> str:
        """The rule on one line, then every failing file with its reason, one per line."""
        return "\n".join([f"{self.name}: {self.message}", *(f"  {failure.path}: {failure.reason}" for failure in self.failures)])


@dataclass(frozen=True)
class ValidationReport:
    """All rules' results, and the number of usable pictures in each split."""

    rules: tuple[RuleResult, ...]
    counts: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether no hard rule failed."""
        return not self.failed("hard")

    def failed(self, severity: Severity) -> tuple[RuleResult, ...]:
        """The failed rules of one severity."""
        return tuple(rule for rule in self.rules if rule.severity == severity and not rule.passed)

    @property
    def warnings(self) -> list[str]:
        """Each failed soft rule as one line, naming the first files."""
        return [_one_line(rule) for rule in self.failed("soft")]

    def raise_if_failed(self, page: Path | None = None) -> None:
        """Raise GateRefused, naming every failed hard rule and every file, if there are any; ``page`` is the page that shows them."""
        failed = self.failed("hard")
        if failed:
            listing = "\n".join(rule.describe() for rule in failed)
            what = "1 hard rule" if len(failed) == 1 else f"{len(failed)} hard rules"
            remedy = "fix or remove these files, then run again" + (f"; they are shown in {page}" if page else "")
            raise GateRefused("style data", f"{what} failed, so nothing was trained\n{listing}", remedy=remedy)

    def as_json(self) -> dict[str, Any]:
        """The content of ``validation.json``."""
        return {"passed": self.passed, **asdict(self)}


def validate_style_set(
    style_set: Path, *, minimum_side: int, needs_roles: bool, out: Path, captioned: bool = False, rights: Mapping[str, Any] | None = None,
    least_style_ref: int = 0,
) -> ValidationReport:  # fmt: skip
    """Validate a style set; write ``validation.json`` and the self-contained page ``validation.html`` into ``out``.

    ``minimum_side`` is the base's resolution: a picture whose shorter side is below it gets a warning, and below half of it is refused.
    Missing captions are not reported if pictures are ``captioned`` later. ``rights`` is the configuration's section, if it asks for any.
    ``least_style_ref`` is as in :func:`components.styledata.rules.rules`.
    Never raises for bad pictures: see :meth:`ValidationReport.raise_if_failed`.
    """
    manifest = Manifest.load(style_set)
    asked = RightsSection.model_validate(rights) if rights else None
    chosen = rules(
        manifest, minimum_side=minimum_side, needs_roles=needs_roles, captioned=captioned, rights=asked, least_style_ref=least_style_ref
    )
    report = ValidationReport(
        rules=tuple(_run(chosen, table(manifest, style_set, asked))), counts={name: len(manifest.usable(name)) for name in SPLITS}
    )
    with atomic_folder(out) as folder:
        write_json(folder / "validation.json", report.as_json())
        _write_page(folder / "validation.html", report, manifest, style_set)
    return report


def _write_page(path: Path, report: ValidationReport, manifest: Manifest, style_set: Path) -> None:
    """Write the page with at most ``_MOST_PICTURES`` thumbnails: failing pictures first, then StyleRef."""
    by_path = {entry.path: entry for entry in manifest.entries if entry.problem is None}
    failing = [failure.path for rule in report.rules for failure in rule.failures]
    style = [entry.path for entry in manifest.usable("style_ref")]
    shown = [name for name in dict.fromkeys([*failing, *style]) if name in by_path][:_MOST_PICTURES]
    thumbnails = {name: thumbnail(by_path[name].load(style_set), _THUMBNAIL)["uri"] for name in shown}
    page = {"report": report.as_json(), "thumbnails": thumbnails, "style": style}
    write_page(path, Path(__file__).with_name("validation.html.j2"), page)


def _one_line(rule: RuleResult, most: int = 3) -> str:
    named = "; ".join(f"{failure.path} {failure.reason}" for failure in rule.failures[:most])
    more = f"; and {len(rule.failures) - most} more" if len(rule.failures) > most else ""
    return f"not met: {rule.message}" + (f" ({named}{more})" if named else "")


def _run(chosen: Sequence[Rule], frame: pandas.DataFrame) -> list[RuleResult]:
    """Run the rules over the table in one Great Expectations validation, in memory."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig

    # With its default stores it would create, and announce, a temporary documentation site that nobody reads.
    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=stores))
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = context.data_sources.add_pandas("style").add_dataframe_asset("manifest").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name="style-set", expectations=[_expectation(rule) for rule in chosen]))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="style-set", data=batch, suite=suite))
    outcome = definition.run(
        batch_parameters={"dataframe": frame}, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]}
    )
    by_name = {result.expectation_config.meta["rule"]: result for result in outcome.results if result.expectation_config}
    rows = {row["path"]: row for row in frame.to_dict("records")}
    return [_result(rule, by_name[rule.name], rows) for rule in chosen]


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as expectations
    from great_expectations.expectations.row_conditions import Column

    build = getattr(expectations, rule.expectation)
    severity = "critical" if rule.severity == "hard" else "warning"
    return build(**rule.arguments, row_condition=Column("kind").is_in(rule.kinds), severity=severity, meta={"rule": rule.name})


def _result(rule: Rule, result: Any, rows: dict[str, dict[str, Any]]) -> RuleResult:
    if result.exception_info and result.exception_info.get("raised_exception"):
        raise RuntimeError(f"the rule {rule.name} could not be run: {result.exception_info.get('exception_message')}")
    found = result.result or {}
    paths = sorted(item["path"] for item in found.get("unexpected_index_list") or ())
    failures = tuple(Failure(path, rule.reason.format_map(rows[path])) for path in paths)
    message = rule.message
    if not result.success and not failures:
        message += f"; {_observed(found)}"
    return RuleResult(rule.name, rule.severity, bool(result.success), message, failures)


def _observed(found: dict[str, Any]) -> str:
    """What a rule about the whole set found: a count, or the values that are missing."""
    missing = found.get("partial_missing_list")
    return f"missing {', '.join(missing)}" if missing else f"found {found.get('observed_value')}"
