"""Messages to a webhook that takes Slack's JSON; its address is a secret, so it comes from the environment and is never shown."""

import logging
import os
import re
from html import escape
from urllib.parse import urlsplit

from components.core.errors import InputError

WEBHOOK_VARIABLE = "STYLEFORGE_WEBHOOK_URL"
SECONDS = 10.0
"""Seconds to wait for the webhook at each step of the exchange."""
LENGTH = 2000
"""Longest message, in characters; the rest is cut off."""
_logger = logging.getLogger(__name__)


def check_webhook(variable: str) -> None:
    """Raise InputError unless the variable can be used; the default one may be unset, which means no messages.

    The error shows neither the variable's value nor its name if that is not valid: it may be an address given by mistake.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        expected = "its name; the address itself stays in the variable"
        raise InputError("--webhook-env", "is not the name of an environment variable", expected=expected)
    address = os.environ.get(variable, "")
    if not address:
        if variable == WEBHOOK_VARIABLE:
            return
        raise InputError(f"--webhook-env {variable}", "is not set", expected="the webhook's address in that variable")
    if not _is_web_address(address):
        raise InputError(variable, "does not contain a web address", expected="https://…", remedy="fix it, or unset it to send no messages")


def notify(text: str, *, variable: str = WEBHOOK_VARIABLE, seconds: float = SECONDS) -> bool:
    """Post ``{"text": text}`` to the address in the variable, if any; returns whether it was accepted. Failures are only logged."""
    address = os.environ.get(variable, "")
    if not address:
        return False
    import requests

    # urllib3's debug messages show the address.
    pool = logging.getLogger("urllib3.connectionpool")
    level = pool.level
    pool.setLevel(logging.ERROR)
    try:
        # Slack reads &, < and > as mark-up.
        answer = requests.post(address, json={"text": escape(text[:LENGTH], quote=False)}, timeout=seconds)
        if answer.ok:
            return True
        reason = f"HTTP {answer.status_code}"
    except Exception as error:
        reason = type(error).__name__  # The error's text may hold the address.
    finally:
        pool.setLevel(level)
    _logger.warning("the webhook in %s did not accept a message (%s)", variable, reason)
    return False


def _is_web_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
