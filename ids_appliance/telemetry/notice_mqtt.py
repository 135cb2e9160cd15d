"""A notice in, MQTT messages out; Home Assistant finds the appliance by discovery messages.

    PREFIX/HOST/notice        each notice, JSON                       not retained
    PREFIX/HOST/standing      {"count": n}                            retained
    PREFIX/HOST/availability  online, offline by the broker's word    retained

Needs paho-mqtt, the extra `notices`; imported only where a broker is configured.
Source: Home Assistant's documentation of MQTT discovery.
"""

import re
import threading
from typing import Any, Final

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from ids_appliance.config.notices import Mqtt
from ids_appliance.errors import NoticeError
from ids_appliance.telemetry.incidents import Notice
from ids_appliance.telemetry.notice_webhook import trusting

ANSWER_S: Final = 10.0
KEEPALIVE_S: Final = 60


class MqttTransport:
    """One broker; the library's own thread keeps the connection alive between notices."""

    name = "mqtt"

    def __init__(self, settings: Mqtt, *, password: str, host: str) -> None:
        """host: this machine's name. Raises NoticeError: the authority cannot be read."""
        self._settings = settings
        self._password = password
        self._node = re.sub(r"[^\w-]", "_", host, flags=re.ASCII) or "gateway"
        self._base = f"{settings.topic.strip('/')}/{self._node}"
        self._tls = trusting(settings.ca, "notices.mqtt.ca") if settings.tls else None
        self._client: paho.Client | None = None
        self._answered = threading.Event()
        self._refused = ""
        self._standing = 0

    def send(self, notice: Notice) -> None:
        """Publish it, and wait for the broker's word that it has it. Raises NoticeError."""
        self._publish("notice", msgspec.json.encode(notice))

    def show(self, standing: int) -> None:
        """Publish how many senders stand. Raises NoticeError."""
        self._standing = standing
        self._publish("standing", msgspec.json.encode({"count": standing}), retain=True)

    def close(self) -> None:
        """Say goodbye and let go; safe to call twice."""
        client, self._client = self._client, None
        if client is None:
            return
        if client.is_connected():
            gone = client.publish(f"{self._base}/availability", b"offline", qos=1, retain=True)
            if gone.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                gone.wait_for_publish(1.0)
        client.disconnect()
        client.loop_stop()

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        client = self._connected()
        try:
            sent = client.publish(f"{self._base}/{topic}", payload, qos=1, retain=retain)
            sent.wait_for_publish(ANSWER_S)
            there = sent.is_published()
        except (RuntimeError, ValueError) as error:  # the connection is gone, its queue is full
            raise self._lost(str(error)) from error
        if not there:
            raise self._lost("no answer")

    def _connected(self) -> paho.Client:
        if self._client is not None:
            if self._client.is_connected():
                return self._client
            self.close()
        host, _, port = self._settings.broker.rpartition(":")
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"ids-appliance-{self._node}")
        client.connect_timeout = ANSWER_S
        client.max_queued_messages_set(16)
        if self._settings.user:
            client.username_pw_set(self._settings.user, self._password or None)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.will_set(f"{self._base}/availability", b"offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        self._answered.clear()
        self._refused = ""
        try:
            client.connect(host.removeprefix("[").removesuffix("]"), int(port), KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise NoticeError(f"{self._settings.broker} cannot be told: {error}") from error
        self._client = client
        client.loop_start()
        if not self._answered.wait(ANSWER_S):
            raise self._lost("no answer")
        if self._refused:
            raise self._lost(self._refused)
        return client

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _more: Any = None
    ) -> None:
        """Make ourselves known, at each connection anew: a broker may have forgotten us."""
        if reason.is_failure:
            self._refused = f"the broker refuses us: {reason}"
        else:
            for topic, payload in discovery(self._settings, self._node, self._base).items():
                client.publish(topic, msgspec.json.encode(payload), qos=1, retain=True)
            client.publish(f"{self._base}/availability", b"online", qos=1, retain=True)
        self._answered.set()

    def _lost(self, why: str) -> NoticeError:
        self.close()
        return NoticeError(f"{self._settings.broker} cannot be told: {why}")


def discovery(settings: Mqtt, node: str, base: str) -> dict[str, dict[str, Any]]:
    """Return topic -> payload by which Home Assistant finds our entities; none where it is off."""
    if not settings.discovery:
        return {}
    unit = {
        "identifiers": [f"ids_appliance_{node}"],
        "name": f"ids-appliance {node}",
        "model": "ids-appliance",
    }
    common: dict[str, Any] = {
        "availability_topic": f"{base}/availability",
        "device": unit,
        "origin": {"name": "ids-appliance"},
    }
    entities: dict[str, dict[str, Any]] = {
        "binary_sensor/{}/contained": {
            "name": "Senders contained",
            "device_class": "safety",
            "state_topic": f"{base}/standing",
            "value_template": "{{ 'ON' if value_json.count > 0 else 'OFF' }}",
        },
        "sensor/{}/standing": {
            "name": "Contained senders",
            "state_class": "measurement",
            "state_topic": f"{base}/standing",
            "value_template": "{{ value_json.count }}",
        },
        "sensor/{}/incident": {
            "name": "Last incident",
            "state_topic": f"{base}/notice",
            "value_template": "{{ value_json.title[:250] }}",
            "json_attributes_topic": f"{base}/notice",
        },
    }
    prefix = settings.discovery.strip("/")
    return {
        f"{prefix}/{place.format('ids_appliance_' + node)}/config": common
        | entity
        | {"unique_id": f"ids_appliance_{node}_{place.rpartition('/')[2]}"}
        for place, entity in entities.items()
    }
