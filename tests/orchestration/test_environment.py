import os
from pathlib import Path

import pytest

from orchestration.environment import prepare_environment


def test_what_the_user_set_stays_and_what_is_set_to_nothing_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "STYLEFORGE_HOME": str(tmp_path), "ZENML_STORE_URL": "", "MLFLOW_TRACKING_URI": "", "AWS_ENDPOINT_URL": "", "HF_HOME": "",
        "ZENML_ANALYTICS_OPT_IN": "true", "HF_TOKEN": "kept", "OTHER": "",
    }  # fmt: skip
    monkeypatch.setattr(os, "environ", dict(given))
    prepare_environment()
    assert not {"ZENML_STORE_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"} & set(os.environ)
    assert os.environ["HF_HOME"] == str(tmp_path / "cache" / "huggingface")
    assert (os.environ["ZENML_ANALYTICS_OPT_IN"], os.environ["HF_TOKEN"], os.environ["OTHER"]) == ("true", "kept", "")
