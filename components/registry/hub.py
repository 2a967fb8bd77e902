"""Pushing an export to a Hugging Face Hub repository; the token comes from the environment and goes nowhere else."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import InputError, ServiceUnreachable

TOKEN = "HF_TOKEN"
ENDPOINT = "HF_ENDPOINT"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Hub:
    """A repository on the hub that this process may write to. The token is in no text of it."""

    repository: str
    private: bool
    token: str = field(repr=False)

    def push(self, folder: Path, message: str) -> str:
        """Upload a folder as one commit, creating the repository if it is missing; returns its address."""
        from huggingface_hub import HfApi

        # The base of the errors of the HTTP library below, which is not the same one in all versions.
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        # Given by hand, since the library would fall back on a token that was stored on this machine.
        api = HfApi(endpoint=os.environ.get(ENDPOINT) or None, token=self.token, library_name="styleforge")
        try:
            api.create_repo(self.repository, private=self.private, exist_ok=True)
            commit = api.upload_folder(repo_id=self.repository, folder_path=folder, commit_message=message)
        except (HfHubHTTPError, ValueError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code >= 500:
                raise self._unreachable(folder, error) from None
            raise InputError(
                f"--push {self.repository}", f"the hub refused ({self._told(error)})",
                expected=f"a token in {TOKEN} that may write to it", remedy=f"the export is whole in {folder}: push it again",
            ) from None  # fmt: skip
        except (HTTPError, OSError) as error:
            raise self._unreachable(folder, error) from None
        return str(commit.repo_url)

    def _unreachable(self, folder: Path, error: Exception) -> ServiceUnreachable:
        return ServiceUnreachable(
            "the hub", f"{self.repository} was not pushed ({self._told(error)})",
            remedy=f"the export is whole in {folder}: check the network and push it again",
        )  # fmt: skip

    def _told(self, error: Exception) -> str:
        """What an error says, on one line and without the token, which a server may have sent back."""
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(self.token, "***")[:400]


def open_hub(repository: str, *, private: bool = True) -> Hub:
    """The repository, and the token of the environment. No request is made yet."""
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"--push {repository}", "is no repository", expected="OWNER/NAME")
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise InputError(
            f"--push {repository}", f"there is no token in the environment variable {TOKEN}",
            expected="a Hugging Face token that may write to the repository",
            remedy=f"set {TOKEN} for this command; it is read from nowhere else and written nowhere",
        )  # fmt: skip
    return Hub(repository, private, token)
