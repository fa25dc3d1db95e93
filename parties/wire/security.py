"""Who may connect, and how both ends know whom they talk to."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from parties.messages import SessionRefused, WireError

TOKEN_KEY = "authorization"
TOKEN_PREFIX = "Bearer "
MIN_TOKEN_CHARS = 16


@dataclass(frozen=True)
class ServerSecurity:
    """How a server proves itself, and how owners prove themselves to it.

    Args:
        certificate: PEM file with the server's certificate; with `key` it turns on TLS.
        key: PEM file with the server's private key.
        owners_ca: PEM file of the authority whose certificates owners have to show (mutual TLS); the
            common name in such a certificate is the only `party` its holder can open sessions as.
        tokens: secret of each party; an owner has to send the one of the party it names.
        insecure: serve plaintext on an address that other machines can reach.
    """

    certificate: Path | None = None
    key: Path | None = None
    owners_ca: Path | None = None
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False

    def credentials(self, listen: str) -> grpc.ServerCredentials | None:
        """What gRPC serves with; None is plaintext.

        Raises:
            WireError: an incomplete setting, an unreadable file, or plaintext beyond this machine.
        """
        if (self.certificate is None) != (self.key is None):
            raise WireError("expected a certificate and its key, got one of them; set both")
        if self.certificate is None or self.key is None:
            if self.owners_ca:
                raise WireError("checking owners' certificates needs TLS; set certificate and key as well")
            require_loopback(listen, self.insecure)
            return None
        ca = _read(self.owners_ca) if self.owners_ca else None
        return grpc.ssl_server_credentials([(_read(self.key), _read(self.certificate))], ca, ca is not None)

    def check_party(self, party: str, context: grpc.ServicerContext) -> None:
        """Refuse a peer that names itself as somebody it is not.

        Raises:
            SessionRefused: without saying which party a certificate or token would fit.
        """
        if self.owners_ca:
            names = context.auth_context().get("x509_common_name", [])
            if [party.encode()] != list(names):
                raise SessionRefused(
                    f"expected a certificate issued to {party!r}; open the session under "
                    f"the common name of the certificate in use"
                )
        if self.tokens:
            sent = dict(context.invocation_metadata()).get(TOKEN_KEY, "")
            sent = sent if isinstance(sent, str) else ""
            expected = self.tokens.get(party, "")
            right = hmac.compare_digest(sent.encode(), (TOKEN_PREFIX + expected).encode())
            if not (right and expected):
                raise SessionRefused(f"expected the token of {party!r}; send the one this server was given for it")


@dataclass(frozen=True)
class ClientSecurity:
    """How an owner checks the server, and proves itself.

    Args:
        server_ca: PEM file of the authority that issued the server's certificate; turns on TLS.
        certificate: PEM file with the owner's certificate, where the server asks for one.
        key: PEM file with the owner's private key.
        token: the owner's secret, where the server asks for one.
        server_name: the name in the server's certificate, where it is not the address.
        insecure: speak plaintext to another machine.
    """

    server_ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = field(default=None, repr=False)
    server_name: str | None = None
    insecure: bool = False

    def credentials(self, address: str) -> grpc.ChannelCredentials | None:
        """What gRPC connects with; None is plaintext.

        Raises:
            WireError: an incomplete setting, an unreadable file, or plaintext beyond this machine.
        """
        if (self.certificate is None) != (self.key is None):
            raise WireError("expected a certificate and its key, got one of them; set both")
        if self.server_ca is None:
            if self.certificate:
                raise WireError("showing a certificate needs TLS; set server_ca as well")
            require_loopback(address, self.insecure)
            return None
        key = _read(self.key) if self.key else None
        certificate = _read(self.certificate) if self.certificate else None
        return grpc.ssl_channel_credentials(_read(self.server_ca), key, certificate)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What is sent once at the start of every session."""
        return [(TOKEN_KEY, TOKEN_PREFIX + self.token)] if self.token else []

    @property
    def options(self) -> list[tuple[str, str]]:
        """What gRPC has to know beside the credentials."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def require_loopback(address: str, insecure: bool) -> None:
    """Refuse plaintext where other machines could read or change it.

    Raises:
        WireError: `address` is not of this machine alone and `insecure` is not set.
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not (local or insecure):
        raise WireError(
            f"plaintext is for this machine alone, and {address} is not; set up TLS, or say "
            f"insecure where everyone on the network may read and change what is sent"
        )


def read_tokens(path: Path) -> dict[str, str]:
    """The secrets in a JSON file of the form {"party": "token"}.

    Raises:
        WireError: not such a file, readable by other users, or a token that could be guessed.
    """
    try:
        tokens = json.loads(_read(path))
    except ValueError:
        raise WireError(f'{path}: expected JSON of the form {{"party": "token"}}') from None
    if path.stat().st_mode & 0o077:
        raise WireError(f"{path}: other users can read these tokens; run chmod 600 on it")
    if not isinstance(tokens, dict) or {type(token) for token in tokens.values()} != {str}:
        raise WireError(f'{path}: expected JSON of the form {{"party": "token"}}')
    if short := [party for party, token in tokens.items() if len(token) < MIN_TOKEN_CHARS]:
        raise WireError(
            f"{path}: expected tokens of at least {MIN_TOKEN_CHARS} characters, got shorter ones for {', '.join(short)}"
        )
    return tokens


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WireError(f"{path}: {error.strerror}; check the path and its permissions") from None
