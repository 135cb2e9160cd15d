# What fired, for people: the key and the counts as text.

from libc.stdint cimport uint8_t
from libc.stdio cimport snprintf

from packet cimport Sender
from screen_look cimport write_address
from screen_state cimport *
from screen_tally cimport Key
from sender cimport SIDE_LAN

cdef extern from *:
    """
    #include <arpa/inet.h>
    static void ids_text(int family, const void *address, char *text) {
        text[0] = 0;
        inet_ntop(family == 4 ? AF_INET : AF_INET6, address, text, 64);
    }
    """
    void ids_text(int family, const void *address, char *text) noexcept nogil


cdef inline str _mac(const uint8_t *mac):
    cdef char text[24]
    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x",
             mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
    return text.decode("ascii")


cdef inline str _address(uint8_t family, const uint8_t *address):
    cdef char text[64]
    ids_text(family, address, text)
    return text.decode("ascii")


cdef inline str _who(const Sender *who):
    # MAC%interface, address%interface, address, or prefix::/64.
    cdef bint lan = who.side == SIDE_LAN
    text = _mac(who.mac) if who.family == 0 else _address(who.family, who.address)
    if not lan:
        return text + "/64" if who.family == 6 else text
    return f"{text}%{who.ifindex}" if who.ifindex else text


cdef inline str _target(const Key *key, bint port):
    cdef uint8_t address[16]
    write_address(key.a0, key.a1, address)
    text = _address(key.family, address)
    if not port:
        return text
    return f"[{text}]:{key.port}" if key.family == 6 else f"{text}:{key.port}"


cdef inline str key_of(const Fired *f, tuple tables):
    cdef const Key *key = &f.key
    if f.rule == R_OVERFLOW:
        return tables[key.port]
    if f.rule == R_DOS:
        return _target(key, True)
    if f.rule == R_UDP_RATE or f.rule == R_ICMP_RATE or f.rule == R_UNSOLICITED:
        return _target(key, False)
    if f.rule == R_ARP_SPOOF and f.cue != CUE_UNASKED:
        return _target(key, False)
    if f.rule == R_FAILED or f.rule == R_REPEATED:
        return f"{_who(&key.who)} -> {_target(key, True)}/{'tcp' if key.proto == 6 else 'udp'}"
    if key.family:
        return f"{_who(&key.who)} -> {_target(key, False)}"
    return _who(&key.who)


cdef inline str detail_of(const Fired *f, tuple tables):
    # The counts, as a person would say them.
    cdef double span = (f.timestamp_ns - f.first) / 1e9
    if f.rule == R_DOS:
        return f"{f.a} SYNs to {_target(&f.key, True)} in {span:.1f} s, {f.b} handshakes"
    if f.rule == R_OVERFLOW:
        return f"table {tables[f.key.port]} is full"
    if f.cue == CUE_SURE and f.key.family:
        return f"{f.a} of {f.b} ports of {_target(&f.key, False)} failed in {span:.1f} s"
    if f.cue == CUE_SURE:
        return f"connections to {f.a} of {f.b} hosts failed in {span:.1f} s"
    if f.cue == CUE_HOSTS:
        return f"attempts on {f.a} hosts in {span:.1f} s, {f.b} of them failed or brief"
    if f.rule == R_PORT_SCAN or f.rule == R_SLOW_SCAN:
        return f"{f.a} ports of {_target(&f.key, False)} in {span:.1f} s, {f.b} failed"
    if f.cue == CUE_ECHO:
        return f"ICMP echo to {f.a} hosts in {span:.1f} s"
    if f.cue == CUE_TARGETS:
        return f"ARP requests for {f.a} addresses in {span:.1f} s"
    if f.cue == CUE_INSISTS:
        return f"{f.a} ARP replies that nobody asked for in {span:.1f} s, about {f.b} addresses"
    if f.cue == CUE_UNASKED:
        return f"{f.a} ARP replies that nobody asked for in {span:.1f} s"
    if f.rule == R_ARP_SPOOF:
        return _claim_detail(f)
    return f"{f.a} in {span:.1f} s: {key_of(f, tables)}"


cdef inline str _claim_detail(const Fired *f):
    said = f"{_target(&f.key, False)} is claimed by {_mac(f.mac)}"
    if f.cue == CUE_GATEWAY:
        return said + ", and is the gateway's own"
    if f.cue == CUE_DISPUTED:
        return f"{said}, and was claimed by {_mac(f.bound)} before"
    said += f", and belongs to {_mac(f.bound)}"
    if f.cue == CUE_CHANGES:
        return f"{said}; it changed hands {f.a} times"
    if f.cue == CUE_CONFIGURED:
        return said + " by the configuration"
    if f.cue == CUE_CONTESTED:
        return said + ", which still uses it"
    if f.cue == CUE_FORGED:
        return said + "; the frame came from a third MAC"
    return said
