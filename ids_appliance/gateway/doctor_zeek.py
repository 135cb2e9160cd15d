"""A configuration that asks for Zeek in, findings out: does it write, and its mirror stand.

Nothing here fails a machine: where Zeek is gone our own rules prescreen (docs/zeek.md).
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance.capture.netlink import links
from ids_appliance.config import Config
from ids_appliance.enforce.nft import Nft, NftError
from ids_appliance.errors import EnforceError, IdsError
from ids_appliance.gateway.machine import Finding
from ids_appliance.gateway.mirror import NEAR
from ids_appliance.trigger.zeek import MAX_AGE_NS, Line
from ids_appliance.trigger.zeek_mirror import TABLE

READ_BYTES: Final = 65_536
"""Looked at of the log's end: hundreds of lines, of which one a second is a sign of life."""
_COUNTER: Final = re.compile(r"counter (copied|limited) \{\s*packets (\d+)")


def examine(config: Config, wall_s: float) -> Iterator[Finding]:
    """Yield what there is to say about Zeek; `wall_s`: the machine's clock, seconds since 1970."""
    if config.trigger.kind != "zeek":
        return
    yield writes(config, wall_s)
    yield copies(config)


def writes(config: Config, wall_s: float) -> Finding:
    """Look at the last sign of life in Zeek's log."""
    log, remedy = config.zeek.log, "systemctl status ids-appliance-zeek"
    try:
        last = _last(_end(Path(log)))
    except OSError as error:
        text = f"{log}: {(error.strerror or str(error)).lower()}: our own rules prescreen"
        return Finding("zeek", "warn", text, f"start it, or correct zeek.log; {remedy}")
    if last is None:
        text = f"{log} has no sign of life of a Zeek with our scripts: our own rules prescreen"
        return Finding("zeek", "warn", text, remedy)
    age_s = wall_s - last.ts
    if age_s > config.zeek.silence_s:
        text = f"nothing in {log} for {age_s:.0f} s: our own rules prescreen"
        return Finding("zeek", "warn", text, remedy)
    if age_s < -MAX_AGE_NS / 1e9:
        return Finding("zeek", "warn", f"{log} is {-age_s:.0f} s ahead of the clock", "set it")
    seen = f"{last.packets:,} packets, {last.lost:,} lost in its ring, {last.entries:,} entries"
    if last.resting:
        text = f"writes, but its rules that count answers rest, packets were lost: {seen}"
        return Finding("zeek", "warn", text, "a flood ends; else see what its mirror says")
    return Finding("zeek", "ok", f"writes to {log}: {seen}")


def copies(config: Config) -> Finding:
    """Look whether the mirror stands, and what its limit has held back."""
    remedy = "systemctl restart ids-appliance-mirror, or `ids-appliance zeek up`"
    try:
        if not any(link.name == NEAR for link in links().values()):
            return Finding("mirror", "warn", f"there is no {NEAR}: Zeek gets no packets", remedy)
        nft = Nft()
        told = "".join(nft.run(f"list counters table {kind} {TABLE}") for kind in ("ip", "ip6"))
    except NftError as error:
        if not error.missing:
            return Finding("mirror", "unknown", f"could not be looked at: {error}")
        return Finding("mirror", "warn", f"table {TABLE} is gone: Zeek gets no packets", remedy)
    except (EnforceError, IdsError, OSError) as error:
        return Finding("mirror", "unknown", f"could not be looked at: {error}")
    counted = {"copied": 0, "limited": 0}
    for name, packets in _COUNTER.findall(told):
        counted[name] += int(packets)
    if not counted["limited"]:
        return Finding("mirror", "ok", f"{counted['copied']:,} packets copied, none held back")
    text = (
        f"{counted['copied']:,} packets copied, {counted['limited']:,} held back at "
        f"{config.zeek.mirror_pps:,} a second: Zeek's rules rested meanwhile, ours counted"
    )
    more = "nothing, if that was a flood; else raise zeek.mirror_pps as far as Zeek's CPU bears"
    return Finding("mirror", "warn", text, more)


def _end(path: Path) -> bytes:
    """Return the log's last bytes; nothing but a regular file is read. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return b""
        return os.pread(fd, READ_BYTES, max(0, found.st_size - READ_BYTES))
    finally:
        os.close(fd)


def _last(text: bytes) -> Line | None:
    """Return the last line that is a sign of life."""
    decoder = msgspec.json.Decoder(Line)
    for line in reversed(text.splitlines()):
        try:
            read = decoder.decode(line)
        except msgspec.MsgspecError:
            continue
        if read.kind == "alive":
            return read
    return None
