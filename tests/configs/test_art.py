"""The configuration of the art base: what it measures, and with what."""

import re

from components.core.config import find_config, load_config
from components.core.paths import REPOSITORY
from runs.plan import recorded

READING = re.compile(r"^\| `([\w:-]+)`[^|]*\| ([\d.]+) \(", re.MULTILINE)


def test_it_is_judged_by_what_the_artist_really_drew() -> None:
    config = load_config(find_config("art"))
    assert "truth" in config.scoring.measures and recorded(config) == {"concepts": True}
    # The default measures stay.
    assert set(load_config(find_config("pocket-flow")).scoring.measures) < set(config.scoring.measures)


def test_style_is_measured_by_what_reads_it_best() -> None:
    text = (REPOSITORY / "docs" / "science.md").read_text(encoding="utf-8")
    section = text.split("## What extractors read on real art")[1].split("\n### ")[0]
    readings = {name: float(share) for name, share in READING.findall(section)}
    assert len(readings) > 5 and load_config(find_config("art")).scoring.style_extractor == max(readings, key=lambda name: readings[name])
