"""The agent's own certificate: made by itself, kept in memory, replaced long before it ends.

The API server's proxy checks no certificate of a pod (kube-apiserver, registry/core/pod/rest/subresources.go:
InsecureSkipVerify), so an authority would gain nothing there; TLS keeps the token from who only listens.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from netk8s.errors import CollectError

VALID = timedelta(days=2)
RENEW_AFTER = timedelta(hours=12)


class Certificate:
    """A TLS context whose certificate can be replaced while connections are open."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.made = self.ends = datetime.now(UTC)
        self.renew()

    def renew(self) -> None:
        """A new key and certificate for the connections that are opened from now on."""
        now = datetime.now(UTC)
        text = _made_elsewhere(self._names)
        # A file in memory: the key is never on a disk, and gone with the descriptor.
        file = os.memfd_create("netk8s-certificate")
        try:
            os.write(file, text)
            self.context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        self.made, self.ends = now, now + VALID

    def renew_when_due(self, now: datetime) -> bool:
        if now - self.made < RENEW_AFTER:
            return False
        self.renew()
        return True


def _made_elsewhere(names: tuple[str, ...]) -> bytes:
    """Makes it in a process of its own: the library for it takes 6 MiB, and is needed for a second in 12 hours."""
    code = "from netk8s.agent import certificate; certificate.main()"
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, check=False, timeout=60)  # noqa: S603 (ourselves)
    if done.returncode:
        raise CollectError(f"no certificate can be made: {done.stderr.decode('utf-8', 'replace').strip()[-200:]}")
    return done.stdout


def main() -> None:
    """Writes a key and a certificate for the names of the command line to standard output."""
    sys.stdout.buffer.write(_make(tuple(sys.argv[1:]), datetime.now(UTC)))


def _make(names: tuple[str, ...], now: datetime) -> bytes:
    """A key on P-256 and a certificate for these names and addresses, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "netk8s-agent")])
    others: list[x509.GeneralName] = []
    for word in names:
        try:
            others.append(x509.IPAddress(ip_address(word)))
        except ValueError:
            others.append(x509.DNSName(word))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of nodes differ.
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(others), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)
