"""What gRPC is told about connections, the same on both ends where it applies to both."""

from __future__ import annotations

from parties.wire.control import MAX_CONTROL_BYTES
from parties.wire.layout import HEADER_BYTES, MAX_TENSORS, WHOLE_BYTES
from parties.wire.limits import Limits

METHOD = "/unsmash.wire.Wire/Session"
SERVICE, METHOD_NAME = "unsmash.wire.Wire", "Session"
MAX_PIECE_BYTES = max(WHOLE_BYTES + MAX_TENSORS * HEADER_BYTES, MAX_CONTROL_BYTES)

Options = list[tuple[str, int]]


def _both(limits: Limits) -> Options:
    return [
        # The most that gRPC allocates before a byte of it was checked.
        ("grpc.max_receive_message_length", MAX_PIECE_BYTES),
        ("grpc.max_send_message_length", MAX_PIECE_BYTES),
        # Without the probe the window stays what it is set to, instead of growing with the bandwidth.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", limits.max_read_ahead_bytes),
        # A whole piece in one frame instead of sixty-four: fewer buffers, and no more of them than the window holds.
        ("grpc.http2.max_frame_size", MAX_PIECE_BYTES),
        # A frozen peer still acknowledges TCP; only an unanswered ping betrays it, and only with both
        # of these time-outs.
        ("grpc.keepalive_time_ms", int(limits.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(limits.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def client_options(limits: Limits) -> Options:
    """For the channel of one session."""
    return [
        *_both(limits),
        # A proxy for the web is no way to a peer, and gRPC would take it even for 127.0.0.1.
        ("grpc.enable_http_proxy", 0),
        # We do our own retries; a shared pool would make one session wait for another's back-off.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
    ]


def server_options(limits: Limits) -> Options:
    """For the server of all sessions."""
    return [
        *_both(limits),
        # Two servers on one port would share its connections at random.
        ("grpc.so_reuseport", 0),
        # Owners ping as often as they like: that is how they notice a frozen server.
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 0),
        # Connections that never speak HTTP/2, or that hold no session, are let go.
        ("grpc.server_handshake_timeout_ms", int(limits.open_timeout_s * 1000)),
        ("grpc.max_connection_idle_ms", int(limits.open_timeout_s * 1000)),
    ]
