"""A notice in, a POST of JSON out; certificates are checked, redirections are not followed."""

import http.client
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from ids_appliance.config.notices import Webhook
from ids_appliance.errors import NoticeError
from ids_appliance.telemetry.channel import Refusal
from ids_appliance.telemetry.incidents import Notice

_READ: Final = 4096
_LATER: Final = frozenset({408, 425, 429})
"""What a server answers that wants to be asked again (RFC 9110, 8470, 6585)."""


class WebhookTransport:
    """One HTTP server. Neither URL nor token is ever part of a message: both may be secrets."""

    name = "webhook"

    def __init__(self, settings: Webhook, *, url: str, token: str) -> None:
        """Raises NoticeError: no such URL can be asked, or the authority cannot be read."""
        parts = split(url)
        self._timeout_s = settings.timeout_s
        self._host, self._port = str(parts.hostname), parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": "ids-appliance"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = trusting(settings.ca, "notices.webhook.ca") if parts.scheme == "https" else None

    def send(self, notice: Notice) -> None:
        """POST it. Raises NoticeError, Refusal."""
        link: http.client.HTTPConnection
        if self._tls is not None:
            link = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=self._tls
            )
        else:
            link = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            link.request("POST", self._path, msgspec.json.encode(notice), self._headers)
            answer = link.getresponse()
            status = answer.status
            answer.read(_READ)
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise NoticeError(f"{self._host} cannot be told: {why[:200]}") from error
        finally:
            link.close()
        if 200 <= status < 300:
            return
        line = f"{self._host} answers with HTTP status {status}"
        raise NoticeError(line) if status >= 500 or status in _LATER else Refusal(line)

    def show(self, standing: int) -> None:
        """Nothing is shown here."""

    def close(self) -> None:
        """Nothing stays open."""


def split(url: str) -> SplitResult:
    """Return a URL's parts. Raises NoticeError, without the URL in it."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise NoticeError("notices.webhook.url is no URL: write https://HOST/PATH")
    if parts.username is not None:
        raise NoticeError("notices.webhook.url: put what authenticates us into token_file")
    return parts


def trusting(ca: str, place: str) -> ssl.SSLContext:
    """Return TLS settings that check the other end's certificate. Raises NoticeError."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise NoticeError(f"{place} = {ca}: no certificates can be read there: {error}") from error
