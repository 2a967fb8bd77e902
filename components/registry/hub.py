"""Push an export to a Hugging Face Hub repository; the token is read from the environment and goes nowhere else."""

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
    """A Hub repository that this process may write to; its ``repr`` does not show the token."""

    repository: str
    private: bool
    token: str = field(repr=False)

    def push(self, folder: Path, message: str) -> str:
        """Upload a folder as one commit, creating the repository if needed; returns the repository's URL."""
        from huggingface_hub import HfApi

        # HTTPError is the base class of the errors of the HTTP library underneath, which differs between versions.
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        # Passed explicitly, since the library would otherwise fall back on a token stored on this machine.
        api = HfApi(endpoint=os.environ.get(ENDPOINT) or None, token=self.token, library_name="styleforge")
        try:
            api.create_repo(self.repository, private=self.private, exist_ok=True)
            commit = api.upload_folder(repo_id=self.repository, folder_path=folder, commit_message=message)
        except (HfHubHTTPError, ValueError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code >= 500:
                raise self._unreachable(folder, error) from None
            raise InputError(
                f"--push {self.repository}", f"the hub refused ({self._told(error)})",
                expected=f"a token in {TOKEN} that may write to it", remedy=f"the export is complete in {folder}: push it again",
            ) from None  # fmt: skip
        except (HTTPError, OSError) as error:
            raise self._unreachable(folder, error) from None
        return str(commit.repo_url)

    def _unreachable(self, folder: Path, error: Exception) -> ServiceUnreachable:
        return ServiceUnreachable(
            "the hub", f"{self.repository} was not pushed ({self._told(error)})",
            remedy=f"the export is complete in {folder}: check the network and push it again",
        )  # fmt: skip

    def _told(self, error: Exception) -> str:
        """An error's text, on one line and without the token, which a server may have echoed."""
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(self.token, "***")[:400]


def open_hub(repository: str, *, private: bool = True) -> Hub:
    """Check the repository's name and read the token; InputError if either is missing or malformed. No request is made yet."""
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"--push {repository}", "is not a repository name", expected="OWNER/NAME")
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise InputError(
            f"--push {repository}", f"there is no token in the environment variable {TOKEN}",
            expected="a Hugging Face token that may write to the repository",
            remedy=f"set {TOKEN} for this command; it is read only from there and never stored",
        )  # fmt: skip
    return Hub(repository, private, token)
