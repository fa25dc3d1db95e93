"""Who may speak to whom, with real certificates and sockets."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from parties.messages import SessionRefused, WireError
from parties.wire.certificates import CertificateFiles, make_test_certificates
from parties.wire.client import GrpcChannel
from parties.wire.limits import Limits
from parties.wire.security import ClientSecurity, ServerSecurity, read_tokens, require_loopback
from parties.wire.server import GrpcServer
from tests.parties.wire.endpoints import Recorder, activation, hello

QUICK = Limits(open_timeout_s=1.0)
TOKENS = {"owner-1": "first-secret-of-16", "owner-2": "second-secret-of-16"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return make_test_certificates(tmp_path_factory.mktemp("certs"), owners=("owner-1", "owner-2"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return make_test_certificates(tmp_path_factory.mktemp("others"), owners=("owner-1",))


def tls(files: CertificateFiles, **more: Any) -> ServerSecurity:
    return ServerSecurity(files.server_certificate, files.server_key, **more)


def as_owner(files: CertificateFiles, owner: str = "owner-1", **more: Any) -> ClientSecurity:
    certificate, key = files.owners[owner]
    return ClientSecurity(files.ca, certificate, key, **more)


def test_keys_are_for_their_owner_alone_and_the_authority_s_is_not_kept(files: CertificateFiles) -> None:
    folder = files.ca.parent
    keys = sorted(folder.glob("*.key"))
    assert [key.name for key in keys] == ["owner-1.key", "owner-2.key", "server.key"]
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    assert not list(folder.glob(".*"))


def test_certificates_are_never_overwritten(files: CertificateFiles) -> None:
    with pytest.raises(WireError, match="already holds certificates"):
        make_test_certificates(files.ca.parent)


def test_a_party_cannot_be_named_into_another_folder(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="party name"):
        make_test_certificates(tmp_path, owners=("../owner",))


def test_over_tls_the_same_bits_arrive(files: CertificateFiles) -> None:
    endpoint, message = Recorder(), activation(1, batch=300)
    with (
        GrpcServer(endpoint, security=tls(files)) as server,
        GrpcChannel(server.address, hello(), security=ClientSecurity(files.ca)) as channel,
    ):
        channel.call(message)
    assert torch.equal(endpoint.seen[0][1], message.tensor)


@pytest.mark.parametrize("security", [ClientSecurity(), "another authority"])
def test_a_server_that_cannot_be_trusted_is_not_spoken_to(
    files: CertificateFiles, others: CertificateFiles, security: Any
) -> None:
    endpoint = Recorder()
    chosen = ClientSecurity(others.ca) if security == "another authority" else security
    with GrpcServer(endpoint, security=tls(files)) as server, pytest.raises(WireError):
        GrpcChannel(server.address, hello(), security=chosen, limits=QUICK)
    assert not endpoint.opened


def test_an_owner_s_certificate_does_not_make_a_server(files: CertificateFiles) -> None:
    certificate, key = files.owners["owner-2"]
    with GrpcServer(Recorder(), security=ServerSecurity(certificate, key)) as impostor, pytest.raises(WireError):
        GrpcChannel(impostor.address, hello(), limits=QUICK, security=ClientSecurity(files.ca, server_name="owner-2"))


def test_mutual_tls_lets_in_who_the_certificate_names_and_nobody_else(
    files: CertificateFiles, others: CertificateFiles
) -> None:
    endpoint = Recorder()
    with GrpcServer(endpoint, security=tls(files, owners_ca=files.ca)) as server:
        with GrpcChannel(server.address, hello(party="owner-1"), security=as_owner(files)) as channel:
            assert channel.call(activation(1)).request_id == 1
        with pytest.raises(SessionRefused, match="certificate issued to 'owner-2'"):
            GrpcChannel(server.address, hello(party="owner-2"), security=as_owner(files))
        for stranger in (as_owner(others), ClientSecurity(files.ca)):
            with pytest.raises(WireError):
                GrpcChannel(server.address, hello(), security=stranger, limits=QUICK)
    assert [said.party for said in endpoint.opened] == ["owner-1"]


@pytest.mark.parametrize(
    "party, token, allowed",
    [
        ("owner-1", TOKENS["owner-1"], True),
        ("owner-2", TOKENS["owner-2"], True),
        ("owner-1", TOKENS["owner-2"], False),
        ("owner-3", TOKENS["owner-1"], False),
        ("owner-3", "", False),
        ("owner-1", None, False),
    ],
)
def test_a_token_is_good_for_its_party_only(party: str, token: str | None, allowed: bool) -> None:
    endpoint = Recorder()
    with GrpcServer(endpoint, security=ServerSecurity(tokens=TOKENS)) as server:
        if allowed:
            GrpcChannel(server.address, hello(party=party), security=ClientSecurity(token=token)).close()
        else:
            with pytest.raises(SessionRefused, match="expected the token") as caught:
                GrpcChannel(server.address, hello(party=party), security=ClientSecurity(token=token))
            assert not any(secret in str(caught.value) for secret in TOKENS.values())
    assert bool(endpoint.opened) == allowed


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.1.2.3:80", "example.org:80", ":0"])
def test_plaintext_stays_on_this_machine_unless_said_aloud(address: str) -> None:
    with pytest.raises(WireError, match="set up TLS, or say insecure"):
        GrpcServer(Recorder(), address)
    with pytest.raises(WireError, match="set up TLS, or say insecure"):
        GrpcChannel(address, hello(), limits=QUICK)
    require_loopback(address, insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.3.2.1:80", "localhost:80", "[::1]:80"])
def test_this_machine_needs_no_tls(address: str) -> None:
    require_loopback(address, insecure=False)


@pytest.mark.parametrize(
    "security, text",
    [
        (ServerSecurity(certificate=Path("x")), "set both"),
        (ServerSecurity(owners_ca=Path("x")), "needs TLS"),
        (ServerSecurity(Path("/nowhere/a"), Path("/nowhere/b")), "check the path"),
    ],
)
def test_half_a_setting_is_an_error(security: ServerSecurity, text: str) -> None:
    with pytest.raises(WireError, match=text):
        GrpcServer(Recorder(), security=security)


def test_secrets_do_not_show_in_logs() -> None:
    shown = repr(ServerSecurity(tokens=TOKENS)) + repr(ClientSecurity(token=TOKENS["owner-1"]))
    assert not any(secret in shown for secret in TOKENS.values())


@pytest.mark.parametrize(
    "content, mode, text",
    [
        ("{", 0o600, "expected JSON"),
        ("[]", 0o600, "expected JSON"),
        ("{}", 0o600, "expected JSON"),
        ('{"a": 1}', 0o600, "expected JSON"),
        ('{"a": "short"}', 0o600, "at least 16 characters"),
        (json.dumps(TOKENS), 0o644, "chmod 600"),
    ],
)
def test_a_token_file_has_to_be_one(tmp_path: Path, content: str, mode: int, text: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(WireError, match=text):
        read_tokens(path)


def test_a_good_token_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(TOKENS))
    path.chmod(0o600)
    assert read_tokens(path) == TOKENS
