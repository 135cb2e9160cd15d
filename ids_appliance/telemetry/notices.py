"""Events in, word to people and machines elsewhere out: by webhook, MQTT and syslog.

The listener of an event log: `take` only looks whether an event is news and leaves it to the
channels' threads, so that whoever reported the event goes on at once.
"""

import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ids_appliance.config.notices import Notices as Settings
from ids_appliance.errors import NoticeError
from ids_appliance.telemetry.channel import Channel, Transport, Watching
from ids_appliance.telemetry.incidents import Incidents

MAX_SECRET: Final = 4096
_MQTT: Final = "ids_appliance.telemetry.notice_mqtt"


class Notices:
    """All channels of one appliance; any thread may call."""

    def __init__(
        self,
        settings: Settings,
        *,
        host: str,
        clock: Callable[[], float],
        note: Callable[[str, str], None] = lambda state, line: None,
    ) -> None:
        """host: this machine's name. clock: seconds, monotonic. note: hears (warning or info, line
        for people) of channels that fail. Raises NoticeError: a channel cannot be used."""
        self._incidents = Incidents(settings)
        self._clock = clock
        self._lock = threading.Lock()
        watching = Watching(clock, note)
        self._channels = [Channel(one, settings, watching) for one in transports(settings, host)]

    def take(self, event: dict[str, Any]) -> None:
        """Tell of an event if it is news; never blocks."""
        if not self._channels:
            return
        with self._lock:
            notice = self._incidents.take(event, self._clock())
            standing = self._incidents.standing
            for channel in self._channels:
                channel.offer(notice, standing)

    def counters(self) -> dict[str, int]:
        """Return totals by name."""
        if not self._channels:
            return {}
        found = {"notices_suppressed": self._incidents.suppressed}
        for channel in self._channels:
            found |= channel.counters()
        return found

    def close(self) -> None:
        """Send what waits, for some seconds at most; safe to call twice."""
        for channel in self._channels:
            channel.close()


def transports(settings: Settings, host: str) -> list[Transport]:
    """Return the configured ways to tell, nothing connected yet. Raises NoticeError."""
    # Imported where they are asked for: each brings libraries that cost memory all the time.
    found: list[Transport] = []
    webhook, mqtt, syslog = settings.webhook, settings.mqtt, settings.syslog
    if webhook.url or webhook.url_file:
        url = webhook.url or secret(webhook.url_file, "notices.webhook.url_file")
        token = secret(webhook.token_file, "notices.webhook.token_file")
        from ids_appliance.telemetry.notice_webhook import WebhookTransport  # noqa: PLC0415

        found.append(WebhookTransport(webhook, url=url, token=token))
    if mqtt.broker:
        try:
            module = importlib.import_module(_MQTT)
        except ModuleNotFoundError as error:
            raise NoticeError(
                f"notices.mqtt needs paho-mqtt: {sys.executable} -m pip install "
                "'ids-appliance[notices]'"
            ) from error
        password = secret(mqtt.password_file, "notices.mqtt.password_file")
        found.append(module.MqttTransport(mqtt, password=password, host=host))
    if syslog.address:
        from ids_appliance.telemetry.notice_syslog import SyslogTransport  # noqa: PLC0415

        found.append(SyslogTransport(syslog))
    return found


def secret(path: str, place: str) -> str:
    """Return the first line of a file with a secret, "" where none is named.

    Raises NoticeError: not to be read, empty, too long.
    """
    if not path:
        return ""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MAX_SECRET + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise NoticeError(f"{place} = {path}: cannot be read: {why}") from error
    line = text.partition("\n")[0].strip()
    if not line or len(text) > MAX_SECRET or not line.isprintable():
        raise NoticeError(f"{place} = {path}: one line with the secret is expected")
    return line
