"""Errors of the Hub's client as one line, and retries after transient errors."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from distillkit.base.errors import DistillkitError, HubError
from distillkit.process.progress import tell, without_passwords

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
ATTEMPTS = 5
LONGEST_WAIT = 60.0  # seconds between two attempts, even if the Hub asks for more
PATIENCE = 600.0  # seconds after which there is no further attempt
TRANSIENT = (408, 409, 412, 429)  # and from 500; an earlier attempt of ours can cause a conflict
ANSWERS = {  # status: what the Hub said, and what to do
    400: ("the Hub rejects the request (400)", "check what is sent"),
    401: ("the Hub does not know your token (401)", "run `hf auth login`, or set HF_TOKEN"),
    403: ("your token may not do that (403)", "use one with write access to it"),
    404: ("the Hub does not find it (404)", "check the name"),
    409: ("the Hub reports a conflict (409)", "look at the repository, then run this again"),
    412: ("somebody else has committed meanwhile (412)", "look at the new commit, then run this again"),
    413: ("the upload is too large for the Hub (413)", "package fewer or smaller sets"),
    429: ("too many requests to the Hub (429)", "try again later"),
}


def patiently(action: Callable[[], T]) -> T:
    """The result of ``action``, retried after transient errors. ``action`` must be safe to repeat."""
    started = monotonic()
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except HubError as error:
            if not error.transient or monotonic() - started > PATIENCE:
                raise
            seconds = 2.0 ** (attempt - 1) if error.wait is None else error.wait
            line = str(error).removesuffix("; try again later")
            tell(f"{line}; trying again in {seconds:g} s ({attempt} of {ATTEMPTS - 1})")
            sleep(seconds)
    return action()


@contextmanager
def hub_errors(api: "HfApi", what: str) -> Iterator[None]:
    """Convert the client's errors to HubErrors of one line, without the token.

    Errors of local files are not converted.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (DistillkitError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno and error.filename and not isinstance(error, HfHubHTTPError):
            raise
        raise as_ours(error, what, api) from None


def as_ours(error: Exception, what: str, api: "HfApi") -> HubError:
    """The HubError for a client's error, from the error or from its causes."""
    from huggingface_hub import errors

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    said, endpoint = first_line(error, api), without_passwords(api.endpoint)
    if "metadata in README.md" in str(error):
        said = first_line(" ".join(str(error).split()), api)
        return HubError(
            f"{what}: the Hub rejects the card ({said}); correct what it is made from, and package it again"
        )
    if answer := next((each for each in chain if isinstance(each, errors.HfHubHTTPError)), None):
        status, asked = answer.response.status_code, answer.response.headers.get("Retry-After", "")
        wait = min(float(asked), LONGEST_WAIT) if asked.isdecimal() and len(asked) < 10 else None
        return HubError(refusal(answer, what, api), status in TRANSIENT or status >= 500, wait)
    if isinstance(chain[-1], errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return HubError(f"{what} is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch it")
    lost = any(isinstance(each, ConnectionError) or is_of_transport(each) for each in chain)
    places = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    if places & {"_upload_xet_files", "xet_get"}:  # for example because this Hub has no Xet storage
        return HubError(f"{what}: the Xet client failed ({said}); try again, or set HF_HUB_DISABLE_XET=1", lost)
    if lost or isinstance(error, errors.LocalEntryNotFoundError):
        said = first_line(chain[-1] if isinstance(error, errors.LocalEntryNotFoundError) else error, api)
        return HubError(f"the Hub at {endpoint} cannot be reached for {what} ({said}); try again later", lost)
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{what}: {said.rstrip('.')}; correct the name")
    return HubError(f"{what}: the client cannot read the Hub's answer ({said}); try again later")


def refusal(answer: Any, what: str, api: "HfApi") -> str:
    """One line for an error response of the Hub."""
    from huggingface_hub import errors

    endpoint = without_passwords(api.endpoint)
    said = f" ({first_line(answer.server_message, api)})" if answer.server_message else ""
    if isinstance(answer, errors.GatedRepoError):
        return f"{what} is gated; ask for access at {endpoint}, then run `hf auth login`"
    if isinstance(answer, errors.RevisionNotFoundError):
        return f"{what} does not exist on the Hub; expected a branch, tag or commit of it; check the revision"
    if isinstance(answer, errors.RemoteEntryNotFoundError):
        return f"{what} lacks a file on the Hub{said}; expected a package that distillkit pushed"
    if isinstance(answer, errors.RepositoryNotFoundError):
        return f"{what} is not on the Hub at {endpoint}, or not open to you; check the name, or run `hf auth login`"
    status = answer.response.status_code
    found, do = ANSWERS.get(status, (f"the Hub answered {status}", "try again later"))
    return f"{what}: {found}{said}; {do}"


def is_of_transport(error: BaseException) -> bool:
    """Whether the connection failed, and not the Hub's response."""
    return type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore")


def first_line(said: object, api: "HfApi", limit: int = 200) -> str:
    """The first non-empty line of a message, shortened, without the token in case a server sends it back."""
    text = without_token(str(said), api)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return line if len(line) <= limit else f"{line[:limit]}…"


def without_token(text: str, api: "HfApi") -> str:
    token = token_of(api)
    return without_passwords(text.replace(token, "<token>") if token else text)


def token_of(api: "HfApi") -> str | None:
    """The token in use, if any."""
    from huggingface_hub import get_token

    return api.token if isinstance(api.token, str) else get_token()
