"""The agent's certificate: good for its names, in memory only, replaced in time."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import timedelta

from cryptography import x509

from netk8s.agent import certificate


def shown(made: certificate.Certificate) -> x509.Certificate:
    """The certificate that a client is shown."""
    ours, theirs = socket.socketpair()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    def serve() -> None:
        with made.context.wrap_socket(theirs, server_side=True) as tls:
            tls.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours) as tls:
        der = tls.getpeercert(binary_form=True)
        tls.send(b"x")
    thread.join()
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_names_and_times() -> None:
    made = certificate.Certificate(("n1", "192.0.2.1", "2001:db8::1"))
    found = shown(made)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    assert found.not_valid_after_utc - found.not_valid_before_utc == certificate.VALID + timedelta(minutes=5)
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_it_is_replaced_long_before_it_ends() -> None:
    made = certificate.Certificate(("n1",))
    first = shown(made).serial_number
    assert not made.renew_when_due(made.made + certificate.RENEW_AFTER - timedelta(seconds=1))
    assert shown(made).serial_number == first
    assert made.renew_when_due(made.made + certificate.RENEW_AFTER)
    assert shown(made).serial_number != first
    assert certificate.RENEW_AFTER * 2 < certificate.VALID
