"""The settings of [notices]: who is told of an incident, and how often."""

from typing import Annotated, Literal

from msgspec import Meta

from ids_appliance.config.terms import Count, Seconds, Section


class Webhook(Section, frozen=True, forbid_unknown_fields=True):
    """An HTTP server that takes each notice as a POST of JSON."""

    url: str = ""
    """https://HOST/PATH (http:// is not encrypted); empty: none."""
    url_file: str = ""
    """File with the URL instead, where the URL itself is a secret."""
    token_file: str = ""
    """File with a token; it is sent as `Authorization: Bearer`."""
    ca: str = ""
    """Authority of the server's certificate (PEM), where it is not one of the system's."""
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """A server that is silent for so long has failed."""


class Mqtt(Section, frozen=True, forbid_unknown_fields=True):
    """An MQTT broker; Home Assistant finds the appliance there by itself."""

    broker: str = ""
    """HOST:PORT; empty: none."""
    user: str = ""
    """Empty: without authentication."""
    password_file: str = ""
    """File with the password of `user`."""
    tls: bool = False
    """Talk TLS to the broker, and check its certificate."""
    ca: str = ""
    """Authority of the broker's certificate (PEM), where it is not one of the system's."""
    topic: str = "ids-appliance"
    """What our topics begin with; the machine's name follows."""
    discovery: str = "homeassistant"
    """Prefix of Home Assistant's discovery; empty: it is not told."""


class Syslog(Section, frozen=True, forbid_unknown_fields=True):
    """A syslog server, RFC 5424."""

    address: str = ""
    """HOST:PORT, or the path of a socket (/dev/log); empty: none."""
    transport: Literal["udp", "tcp"] = "udp"
    """How HOST:PORT is reached: datagrams (RFC 5426), or a connection (RFC 6587)."""
    facility: Annotated[int, Meta(ge=0, le=23)] = 16
    """Number of the facility; 16: local0."""


class Notices(Section, frozen=True, forbid_unknown_fields=True):
    """Word to people and machines elsewhere: one notice per incident."""

    about: tuple[Literal["decision", "trigger", "alarm"], ...] = ("decision", "alarm")
    """What is told: decisions about senders, what a trigger names, what is wrong with us."""
    repeat_s: Seconds = 3600.0
    """An incident that goes on is told again after so long, with how often it was seen."""
    per_minute: Count = 10
    """Notices a minute and channel; what comes beyond is told together in one."""
    queue: Annotated[int, Meta(ge=8, le=100_000)] = 256
    """Notices waiting for a channel; further ones are counted, and the count is told."""
    webhook: Webhook = Webhook()
    mqtt: Mqtt = Mqtt()
    syslog: Syslog = Syslog()
