"""Certificates from files: what is wrong with them at the start, and when a change counts."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from sickbay.adapters.tls.files import CertificateFiles
from sickbay.domain.errors import SettingsError
from tests.support.tls_ports import LONG_AGO, Papers, SecretMount


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """An authority of the test's own."""
    return Papers(tmp_path / "papers")


@pytest.fixture
def mount(tmp_path: Path) -> SecretMount:
    """As in a pod."""
    return SecretMount(tmp_path / "mount")


def opened(mount: SecretMount, client_ca: bool = False) -> CertificateFiles:
    """The files of a Secret for TLS."""
    crt, key, ca = (str(mount.folder / name) for name in ("tls.crt", "tls.key", "ca.crt"))
    return CertificateFiles(crt, key, ca if client_ca else None)


def test_what_is_there_is_in_force_and_a_swap_counts_at_the_next_look(papers, mount):
    first, second = papers.pair(), papers.pair()
    mount.put(tls_crt=first[0], tls_key=first[1])
    files = opened(mount)
    before = files.current
    files.look()
    assert files.current is before
    mount.put(tls_crt=second[0], tls_key=second[1])
    files.look()
    assert (files.current.certificate, files.current.key) == second
    assert files.current.context is not before.context


def test_without_an_authority_nobody_is_asked_and_with_one_everybody_is(papers, mount):
    certificate, key = papers.pair()
    mount.put(tls_crt=certificate, tls_key=key, ca_crt=papers.ca.read_bytes())
    assert opened(mount).current.context.verify_mode is ssl.CERT_NONE
    assert opened(mount, client_ca=True).current.context.verify_mode is ssl.CERT_REQUIRED


def test_the_authority_is_renewed_too_and_the_former_is_forgotten(papers, mount, tmp_path):
    certificate, key = papers.pair()
    other = Papers(tmp_path / "others")
    mount.put(tls_crt=certificate, tls_key=key, ca_crt=papers.ca.read_bytes())
    files = opened(mount, client_ca=True)
    mount.put(tls_crt=certificate, tls_key=key, ca_crt=other.ca.read_bytes())
    files.look()
    assert files.current.client_ca == other.ca.read_bytes()
    assert len(files.current.context.get_ca_certs()) == 1


def test_half_a_change_leaves_the_former_in_force_and_is_logged_once(papers, tmp_path, caplog):
    certificate, key = papers.sign("server")
    files = CertificateFiles(str(certificate), str(key))
    before, (new_certificate, new_key) = files.current, papers.pair()
    for half in (b"", new_certificate[:200], new_certificate):
        certificate.write_bytes(half)
        caplog.clear()
        files.look()
        files.look()
        assert files.current is before
        assert len(caplog.records) == 1
        assert caplog.records[0].levelno == logging.ERROR
        assert "in force stays" in caplog.text
    assert "does not belong to the certificate" in caplog.text
    assert new_key.decode() not in caplog.text
    key.write_bytes(new_key)
    files.look()
    assert files.current.certificate == new_certificate


def test_a_file_that_is_gone_leaves_the_former_in_force_and_is_logged_once(papers, caplog):
    certificate, key = papers.sign("server")
    files = CertificateFiles(str(certificate), str(key))
    content = key.read_bytes()
    key.unlink()
    files.look()
    files.look()
    assert [record.getMessage() for record in caplog.records] == [
        f"the TLS certificate in force stays: TLS_KEY_FILE: cannot read {key} (No such file or directory)"
    ]
    key.write_bytes(content)
    files.look()
    assert files.current.key == content


def test_never_a_certificate_with_the_key_of_another(papers, tmp_path):
    """While another thread replaces both files as fast as it can, in two steps, what is in force always fits."""
    pairs = dict(papers.pair() for _ in range(4))
    certificate, key = papers.sign("server")
    first = certificate.read_bytes(), key.read_bytes()
    pairs[first[0]] = first[1]
    files, stop = CertificateFiles(str(certificate), str(key)), threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for one, secret in pairs.items():
                for path, content in ((certificate, one), (key, secret)):
                    beside = path.with_suffix(".new")
                    beside.write_bytes(content)
                    beside.replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(100):
            files.look()
            now = files.current
            assert pairs[now.certificate] == now.key
    finally:
        stop.set()
        thread.join()


def test_what_is_wrong_at_the_start_is_one_sentence(papers, tmp_path):
    certificate, key = map(str, papers.sign("server"))
    _, other_key = map(str, papers.sign("other"))
    nothing, garbage = str(tmp_path / "nothing.pem"), tmp_path / "garbage.pem"
    garbage.write_text("no PEM", "ascii")
    scrambled = tmp_path / "scrambled.key"
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    scrambled.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
        )
    )
    for files, words in (
        ((nothing, key), f"TLS_CERT_FILE: cannot read {nothing} (No such file or directory)"),
        ((certificate, nothing), f"TLS_KEY_FILE: cannot read {nothing} (No such file or directory)"),
        ((certificate, other_key), f"TLS_KEY_FILE: the key in {other_key} does not belong to the certificate in {certificate}"),
        ((str(garbage), key), f"TLS_CERT_FILE: {garbage} has no certificate in PEM"),
        ((certificate, str(garbage)), f"TLS_KEY_FILE: {garbage} has no private key in PEM"),
        ((certificate, str(scrambled)), f"TLS_KEY_FILE: {scrambled}: it is encrypted with a password; a service needs the key without one"),
        ((certificate, key, nothing), f"TLS_CLIENT_CA_FILE: cannot read {nothing} (No such file or directory)"),
        ((certificate, key, str(garbage)), f"TLS_CLIENT_CA_FILE: {garbage} has no certificate in PEM"),
    ):
        with pytest.raises(SettingsError) as error:
            CertificateFiles(*files)
        assert str(error.value).startswith(words)


def test_dates_are_warned_of(papers, caplog):
    CertificateFiles(*map(str, papers.sign("server", **LONG_AGO)))
    assert "expired on 2021-01-01" in caplog.text


def test_nothing_shows_the_key(papers):
    certificate, key = papers.sign("server")
    files = CertificateFiles(str(certificate), str(key))
    assert "PRIVATE" not in repr(files.current) + repr(files)
