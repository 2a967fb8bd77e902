"""Early stopping: judges the candidates of a training run as they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config import SamplingSection, ScoringSection, SelectionSection
from steps.io.artifacts import Folder
from steps.training.selection_bank import SelectionBank

if TYPE_CHECKING:
    from components.diffusion.models.bundle import Bundle


@dataclass(frozen=True)
class Patience:
    """A :class:`components.diffusion.training.patience.Watch` that uses the rule of ``select``, at the configured guidance."""

    bank: SelectionBank

    def look(self, bundle: Bundle, step: int, folder: Path) -> dict[str, Any]:
        """Draw the bank into ``folder`` and score it; return the candidate's record."""
        at = self.bank.default(step)
        drawn = self.bank.draw(bundle, at, folder, in_training=True)
        judge = self.bank.judge()
        baseline = float(judge.baseline["value"])
        return {"baseline": baseline, **judge.option(at, drawn, self.bank.rule(baseline)).as_json()}

    def is_over(self, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether at least ``patience`` candidates have followed the one that would be chosen now."""
        from components.evaluation.selection import Option, choose

        assert self.bank.rules.patience is not None
        chosen = choose([Option.from_json(record) for record in records], self.bank.rule(records[-1]["baseline"])).chosen
        return len(records) - 1 - chosen >= self.bank.rules.patience


def patience_for(
    style_set: Folder, seed: int, base: dict[str, Any], concepts: list[dict[str, Any]], tokens: list[str], sampling: dict[str, Any],
    bank: str, scoring: dict[str, Any], weights: dict[str, Any], selection: dict[str, Any], code: str,
) -> Patience:  # fmt: skip
    """Create a :class:`Patience` from parameters like those of :func:`steps.training.select.select`.

    ``weights`` are digests of the extractors' files, ``code`` a digest of this module and all that it reaches; if either changes, a
    cached training result is not reused.
    """
    rules = SelectionSection(**selection)
    return Patience(
        SelectionBank(style_set, seed, base, concepts, tokens, SamplingSection(**sampling), bank, ScoringSection(**scoring), rules)
    )
