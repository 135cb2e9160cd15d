"""A configuration in, findings out about what leaves this machine: queues and notices.

Nothing is changed and nothing is sent.
"""

from collections.abc import Iterator

from ids_appliance.config import Config
from ids_appliance.config.priorities import AUTO, rate
from ids_appliance.enforce import tc_kernel
from ids_appliance.enforce.link_speed import link_speed
from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.tables import present
from ids_appliance.enforce.tc import demand_egress
from ids_appliance.errors import EnforceError, NoticeError, PermissionMissing
from ids_appliance.gateway.machine import Finding
from ids_appliance.telemetry.notices import transports


def outward(config: Config) -> Iterator[Finding]:
    """Yield what there is to say about [tc] and [notices]; nothing where they are not used."""
    if config.tc.rates:
        yield from classes(config)
    yield from notices(config)


def classes(config: Config) -> Iterator[Finding]:
    """Look whether the kernel has the queues, and whose the interfaces' present ones are."""
    try:
        demand_egress(Nft())
        missing = set(tc_kernel.missing_kinds())
        found = tc_kernel.look()
    except PermissionMissing as error:
        yield Finding("tc", "unknown", f"could not be looked at: {error}")
        return
    except EnforceError as error:
        yield Finding("tc", "fail", str(error), "install it, or leave [tc] rates away")
        return
    if needed := missing & {"htb", "tbf", "pfifo"}:
        names = ", ".join(sorted(needed))
        words = " && ".join(f"modprobe sch_{name}" for name in sorted(needed))
        yield Finding("tc", "fail", f"this kernel lacks {names}", words)
        return
    if {"fq_codel", "sfq"} <= missing:
        line = "this kernel has neither fq_codel nor sfq: flows of one class share one queue"
        yield Finding("tc", "warn", line, "modprobe sch_fq_codel")
    there = present(tuple(config.tc.rates))
    for name, text in config.tc.rates.items():
        queues = found.get(name, tc_kernel.Queues())
        bits = link_speed(name) if text == AUTO else rate(text)
        if name not in there:
            yield Finding("tc", "warn", f"{name} is not there", "correct [tc] rates, or create it")
        elif queues.root:
            line = f"{name}: its root is somebody else's ({queues.root}), and stays"
            yield Finding("tc", "warn", line, f"tc qdisc del dev {name} root")
        elif not bits:
            line = f'{name} states no speed for "auto"'
            yield Finding("tc", "warn", line, f'name what its link carries: {name} = "18 mbit"')
        else:
            yield Finding("tc", "ok", f"{name}: {bits / 1e6:g} Mbit/s in four classes")


def notices(config: Config) -> Iterator[Finding]:
    """Read the secrets and authorities, import what is needed; nobody is told anything."""
    settings = config.notices
    try:
        found = transports(settings, "doctor")
    except NoticeError as error:
        yield Finding("notices", "fail", str(error), "correct [notices]")
        return
    if found:
        yield Finding("notices", "ok", f"by {', '.join(one.name for one in found)}")
    if settings.webhook.url.startswith("http://"):
        line = "notices.webhook.url: not encrypted, token and notices can be read on the way"
        yield Finding("notices", "warn", line, "use https://")
    if settings.mqtt.password_file and not settings.mqtt.tls:
        line = "notices.mqtt: not encrypted, the password can be read on the way"
        yield Finding("notices", "warn", line, "notices.mqtt.tls = true")
