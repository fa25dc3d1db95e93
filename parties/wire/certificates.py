"""A throw-away certificate authority for a test set-up."""

from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from parties.messages import WireError
from parties.wire.control import PARTY_NAME

VALID_DAYS = 30


@dataclass(frozen=True)
class CertificateFiles:
    """What `make_test_certificates` wrote; every key is readable by its owner alone."""

    ca: Path
    server_certificate: Path
    server_key: Path
    owners: dict[str, tuple[Path, Path]]  # party: (certificate, key)


def make_test_certificates(
    directory: Path, owners: Sequence[str] = ("owner",), hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1")
) -> CertificateFiles:
    """Write `ca.pem`, `server.pem` and `.key`, and a pair for each owner, into `directory`.

    The authority's own key is never written: nobody can issue further certificates from these files. Each
    is valid for thirty days; server certificates do not serve as owners' nor the other way round.

    Raises:
        WireError: a name that no party can have, or a directory that already holds certificates.
    """
    for owner in owners:
        if not PARTY_NAME.fullmatch(owner) or owner in ("ca", "server"):
            raise WireError(
                f"expected a party name of letters, digits, blanks or _.@- other than ca and server, got {owner!r}"
            )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.glob("*.pem")):
        raise WireError(f"{directory} already holds certificates; remove them or choose another directory")
    authority = _Authority()
    _write(directory / "ca.pem", authority.pem, 0o644)
    names = [_host(host) for host in hosts]
    server = authority.issue(directory, "server", ExtendedKeyUsageOID.SERVER_AUTH, names)
    pairs = {owner: authority.issue(directory, owner, ExtendedKeyUsageOID.CLIENT_AUTH) for owner in owners}
    return CertificateFiles(directory / "ca.pem", *server, pairs)


class _Authority:
    """A key and a certificate of its own, in memory only."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("unsmash test authority")
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _valid(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, directory: Path, name: str, purpose: x509.ObjectIdentifier, hosts: Sequence[x509.GeneralName] = ()
    ) -> tuple[Path, Path]:
        """Write a certificate for `name` that is good for `purpose` only, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _valid(_name(name), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem_path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
        _write(key_path, secret, 0o600)
        _write(pem_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return pem_path, key_path


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _valid(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks differ a little
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """All or nothing, and never readable by others, not even for a moment."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
