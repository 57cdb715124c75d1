"""Errors of the Hub's client in one line, and which of them are worth another attempt."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from distillkit.base.errors import DistillkitError, HubError
from distillkit.process.progress import tell, without_passwords

if TYPE_CHECKING:
    from huggingface_hub import HfApi


T = TypeVar("T")

ATTEMPTS = 5

LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the Hub asks for

PATIENCE = 600.0  # seconds in which attempts are made


def is_xet_failure(error: BaseException) -> bool:
    """Whether the client's Xet part failed, as it does against a Hub that has no Xet storage."""
    from huggingface_hub.errors import HfHubHTTPError

    places = (frame.name for frame in traceback.extract_tb(error.__traceback__))
    return not isinstance(error, HfHubHTTPError) and any(name in ("_upload_xet_files", "xet_get") for name in places)


def token_of(api: "HfApi") -> str | None:
    """The token in use, if any."""
    from huggingface_hub import get_token

    return api.token if isinstance(api.token, str) else get_token()


# Errors


def patiently(action: Callable[[], T], wait: Callable[[float], None] = time.sleep) -> T:
    """What ``action`` returns, tried again after transient errors; it must be safe to repeat."""
    started = time.monotonic()
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except HubError as error:
            if not error.transient or time.monotonic() - started > PATIENCE:
                raise
            seconds = 2.0 ** (attempt - 1) if error.wait is None else error.wait
            line = str(error).removesuffix("; try again later")
            tell(f"{line}; trying again in {seconds:g} s ({attempt} of {ATTEMPTS - 1})")
            wait(seconds)
    return action()


@contextmanager
def hub_errors(api: "HfApi", what: str) -> Iterator[None]:
    """Turn whatever the client raises into a HubError of one line that cannot show the token.

    Errors of this machine's files pass as they are.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (DistillkitError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno and error.filename and not isinstance(error, HfHubHTTPError):
            raise

        def told(text: object) -> str:
            return first_line(without_token(str(text), api))

        endpoint = without_passwords(api.endpoint)
        raise HubError(explained(error, what, endpoint, told), is_transient(error), retry_after(error)) from None


def explained(error: Exception, what: str, endpoint: str, told: Callable[[object], str]) -> str:
    """One line for an error of the client: what happened, and what to do."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return f"{what} is not all in the cache, and HF_HUB_OFFLINE is set; unset it to reach the Hub"
    if "metadata in README.md" in str(error):
        said = told(" ".join(str(error).split()))
        return f"{what}: the Hub does not take the card ({said}); mend what it is made from, and package it again"
    if (refused := refusal(error, what, endpoint, told)) is not None:
        return refused
    if is_xet_failure(error):
        return f"{what}: the Xet client failed ({told(error)}); try again, or set HF_HUB_DISABLE_XET=1"
    if is_unreachable(error):
        return f"the Hub at {endpoint} cannot be reached for {what} ({told(error)}); try again later"
    if isinstance(error, HFValidationError):
        return f"{what}: {told(error).rstrip('.')}; correct the name"
    return f"{what}: the Hub's answer makes no sense to its client ({told(error)}); try again later"


def refusal(error: BaseException, what: str, endpoint: str, told: Callable[[object], str]) -> str | None:
    """One line for an answer of the Hub that is no success; None for another kind of error."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        cause = error.__cause__
        if cause is None or isinstance(cause, errors.OfflineModeIsEnabled):
            return f"{what} is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch it"
        if (deeper := refusal(cause, what, endpoint, told)) is not None:
            return deeper
        return f"the Hub at {endpoint} cannot be reached for {what} ({told(cause)}); try again later"
    if not isinstance(error, errors.HfHubHTTPError):
        return refusal(error.__cause__, what, endpoint, told) if error.__cause__ else None
    status = error.response.status_code
    said = f" ({told(error.server_message)})" if error.server_message else ""
    if isinstance(error, errors.GatedRepoError):
        return f"{what} is gated; ask for access at {endpoint}, then run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{what} does not exist on the Hub; expected a branch, tag or commit of it; check the revision"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{what} lacks a file on the Hub{said}; expected a package that distillkit pushed"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{what} is not on the Hub at {endpoint}, or hidden from you; check the name, or run `hf auth login`"
    return f"{what}: {STATUS.get(status, f'the Hub answered {status}')}{said}; {REMEDY.get(status, 'try again later')}"


STATUS = {
    400: "the Hub calls the request bad (400)",
    401: "the Hub does not know your token (401)",
    403: "your token may not do that (403)",
    404: "the Hub does not find it (404)",
    409: "the Hub reports a conflict (409)",
    412: "somebody else has committed in between (412)",
    413: "the Hub takes nothing so large (413)",
    429: "the Hub wants fewer requests (429)",
}

REMEDY = {
    400: "check what is sent",
    401: "run `hf auth login`, or set HF_TOKEN",
    403: "use one with write access to it",
    404: "check the name",
    409: "look at the repository, then run this again",
    412: "look at the new commit, then run this again",
    413: "package fewer or smaller sets",
}


def is_unreachable(error: BaseException) -> bool:
    """Whether the connection failed rather than the Hub answered."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    return isinstance(error, ConnectionError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore")


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later. A conflict may: our own earlier attempt may have caused it."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 409, 412, 429) or error.response.status_code >= 500
    cause = error.__cause__
    return is_unreachable(error) or (cause is not None and is_transient(cause))


def retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks us to wait, at most LONGEST_WAIT."""
    from huggingface_hub.errors import HfHubHTTPError

    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), LONGEST_WAIT) if asked.isdecimal() and len(asked) < 10 else None


def first_line(text: str, limit: int = 200) -> str:
    """The first line of a message that says something, shortened."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return line if len(line) <= limit else f"{line[:limit]}…"


def without_token(text: str, api: "HfApi") -> str:
    """``text`` with the token masked, should a server have sent it back."""
    token = token_of(api)
    return without_passwords(text.replace(token, "<token>") if token else text)
