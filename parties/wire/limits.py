"""Every bound a wire session has, in one place, with its default and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass, fields

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of one end of the wire; each end enforces its own, so they need not agree."""

    max_message_bytes: int = 256 * MIB
    """Payload of one message; a batch of 1,024 activations of 64*32*32 floats fits exactly."""

    max_sessions: int = 128
    """Open sessions of one server; each holds a worker thread, one more is refused with a message."""

    max_sessions_per_party: int = 32
    """Open sessions under one name, so that no single owner can use up all of `max_sessions`."""

    max_opening: int = 32
    """Streams that have not said who they are yet; they never count against `max_sessions`."""

    max_in_flight: int = 4
    """Requests one channel sends ahead of their replies; `submit` waits when so many are unanswered.
    This is also the length of the only queue there is: past it a slow server slows its owner."""

    max_read_ahead_bytes: int = 2 * MIB
    """What a peer may send ahead of what has been read, on each session; gRPC holds it in memory. Raise it
    where the network is long and fast: throughput is at most this for each round trip."""

    open_timeout_s: float = 10.0
    """From connecting to an accepted session, and how long a server waits for a peer to say hello."""

    request_timeout_s: float = 60.0
    """From sending a request to its whole reply; a server also gives up on half a message after it."""

    idle_timeout_s: float = 600.0
    """How long a server keeps a session that asks nothing; an owner may think between requests."""

    keepalive_s: float = 10.0
    """Silence after which a peer is pinged, even when nothing is asked of it."""

    keepalive_timeout_s: float = 5.0
    """How long a ping may stay unanswered. A dead or frozen peer is noticed within
    `keepalive_s + keepalive_timeout_s`."""

    reconnect_within_s: float = 30.0
    """How long a lost connection is retried before its requests fail; 0 never reconnects."""

    first_backoff_s: float = 0.1
    """Wait before the second attempt to connect; it doubles with every further one."""

    longest_backoff_s: float = 2.0
    """Where the doubling stops: a server that restarts is found again within this."""

    max_resends: int = 3
    """How often one unanswered inference request is sent again, so that a request which kills every
    server that reads it does not do so for ever."""

    check_finite: bool = True
    """Refuse messages with NaN or infinity in them; one pass over data that is in cache anyway."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.name.startswith("max_") and field.name != "max_resends" else 0
            if value < least or (field.name.endswith("_timeout_s") and value <= 0):
                raise ValueError(f"{field.name}: expected at least {least or 'more than 0'}, got {value}")

    @property
    def notice_s(self) -> float:
        """Within how many seconds a dead or frozen peer is noticed."""
        return self.keepalive_s + self.keepalive_timeout_s
