"""Every error a caller may meet, one tree.

    IdsError                     one clear line for people; the command line exits with 2
     +- CaptureError             a capture file cannot be read at all
     +- InterfaceError           a network interface cannot be captured
     +- InlineError              packets cannot be held for a verdict: no queue, no package, no rule
     +- PermissionMissing        a capability is missing; the message names it
     +- BundleError              a model bundle is damaged, malicious or of another schema
     +- ModelLimit               one run has seen more models than it can tell apart
     +- ConfigError              the configuration cannot be read, or contradicts itself
     +- EventLogError            the event log's file cannot be opened
     +- MetricsError             the metrics cannot be served at the address
     +- NoticeError              nobody elsewhere can be told as asked
     +- EnforceError             the kernel's packet filter cannot be used as asked
     +- BoundsError              the bounds of the evidence cannot be used
     +- SubjectError             what was written names nobody; the message says what to write
     +- Refused                  an order is not carried out: protected, allowed, paused, off
     +- StateError               decisions cannot be saved, or what was saved cannot be read
     +- LabelError               labels or training data are not usable
         +- TableError           a feature table cannot be written, or is not one of ours
     +- ClusterError             the Dask cluster cannot be used
     +- LabError                 a lab cannot be built, or a scenario cannot be played
         +- ToolMissing          a tool of the lab is not installed; the message names its package
     +- DrillError               a drill cannot be prepared or run
     +- MonitorError             the traffic monitor cannot be built, asked or taken down
         +- SwitchDown           Open vSwitch does not answer
     +- LinkError                the node cannot be used
         +- NodeUnreachable      nobody answers at any of the addresses
         +- HandshakeError       version, schema, model or role do not fit
         +- CertificateError     TLS: wrong authority, wrong role, not valid now, revoked
     +- ControlError             a running gateway cannot be asked, or refuses
         +- NotRunning           no gateway answers at the sockets
         +- AlreadyRunning       a gateway is at the sockets already

Damage inside a stream of packets is never an exception: it is a counter. The codec's own errors
(:class:`ids_appliance._wire.WireError`) become ``LinkError`` where the connection is closed.
"""


class IdsError(Exception):
    """Base of all: the message says what failed and what to do."""


class CaptureError(IdsError):
    """A capture file cannot be read at all."""


class InterfaceError(IdsError):
    """A network interface cannot be captured."""


class InlineError(IdsError):
    """Packets cannot be held for a verdict; the message says what is missing or in the way."""


class PermissionMissing(IdsError):
    """The process lacks a capability; the message names it and the remedy."""


class BundleError(IdsError):
    """A model bundle is damaged, malicious or made for another schema."""


class WorseModel(IdsError):
    """A new model is worse than the one in use."""


class ModelLimit(IdsError):
    """One run has seen more models than it can tell apart."""


class ConfigError(IdsError):
    """The configuration cannot be read, or says what cannot be meant; the message names where."""


class EventLogError(IdsError):
    """The event log's file cannot be opened."""


class MetricsError(IdsError):
    """The metrics cannot be served at the address."""


class NoticeError(IdsError):
    """A notice does not get through now, or its channel cannot be used as configured."""


class EnforceError(IdsError):
    """The kernel's packet filter cannot be used as asked, or its tables are somebody else's."""


class BoundsError(IdsError):
    """A file of bounds is damaged, or calibration has nothing to go by."""


class SubjectError(IdsError):
    """What was written names no sender; the message says what to write."""


class Refused(IdsError):
    """An order about a sender is not carried out; the message says why and what would help."""


class StateError(IdsError):
    """Decisions cannot be saved, or what was saved can neither be read nor set aside."""


class LabelError(IdsError):
    """Labels or training data are not usable."""


class TableError(LabelError):
    """A feature table cannot be written or read, or is of another packet record."""


class ClusterError(IdsError):
    """The Dask cluster cannot be used: not there, without workers, or of other versions."""


class LabError(IdsError):
    """A lab cannot be built, or a scenario cannot be played."""


class ToolMissing(LabError):
    """A tool of the lab is not installed; the message names its package."""


class DrillError(IdsError):
    """A drill cannot be prepared or run."""


class MonitorError(IdsError):
    """The traffic monitor cannot be built, asked or taken down; the message says what to do."""


class SwitchDown(MonitorError):
    """Open vSwitch does not answer."""


class LinkError(IdsError):
    """The node cannot be used."""


class NodeUnreachable(LinkError):
    """Nobody answers at any of the node's addresses."""


class HandshakeError(LinkError):
    """Node and gateway do not fit: version, schema, model or role."""


class CertificateError(LinkError):
    """TLS refused the peer or our own certificate."""


class ControlError(IdsError):
    """A running gateway cannot be asked, or refuses; `kind` as in gateway/messages.py."""

    def __init__(self, message: str, *, kind: str = "failed") -> None:
        super().__init__(message)
        self.kind = kind


class NotRunning(ControlError):
    """No gateway answers at the sockets."""


class AlreadyRunning(ControlError):
    """A gateway is at the sockets already."""
