"""TLS for REST and gRPC, from certificate files that are checked before anything listens."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import SecretError


@dataclass(frozen=True)
class Certificates:
    """The PEM files that a server shows and checks with.

    Attributes:
        certificate: its certificate, followed by those between it and the authority.
        key: the private key, without a passphrase.
        client_ca: the authorities that clients' certificates must come from; None where clients need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """What HTTP over TLS needs: TLS 1.2 at least.

        Raises:
            SecretError: a file can't be read or isn't what it should be, or certificate and key don't belong together.
        """
        for path in filter(None, (self.certificate, self.key, self.client_ca)):
            _read(path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.certificate, self.key, password=self._refuse_passphrase)
        except ssl.SSLError as error:
            raise self._mismatch(error) from None
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError:
                raise SecretError(f"{self.client_ca} holds no certificate in PEM format") from None
        return context

    def pem(self) -> tuple[bytes, bytes, bytes | None]:
        """The key, the certificates and the authorities of clients, as gRPC takes them; raises SecretError."""
        authorities = None if self.client_ca is None else _read(self.client_ca)
        return _read(self.key), _read(self.certificate), authorities

    def _refuse_passphrase(self) -> str:
        raise SecretError(
            f"the key {self.key} has a passphrase",
            help=f"write one without, readable by the server alone: openssl pkey -in {self.key} -out server.key",
        )

    def _mismatch(self, error: ssl.SSLError) -> SecretError:
        """Which of the two files is wrong; OpenSSL names the reason alone."""
        if error.reason == "KEY_VALUES_MISMATCH":
            return SecretError(
                f"the certificate {self.certificate} is not for the key {self.key}",
                help="both must come from one request: openssl x509 -pubkey and openssl pkey -pubout tell their keys",
            )
        if b"-----BEGIN CERTIFICATE-----" not in _read(self.certificate):
            return SecretError(f"{self.certificate} holds no certificate in PEM format")
        if b"PRIVATE KEY-----" not in _read(self.key):
            return SecretError(f"{self.key} holds no private key in PEM format")
        return SecretError(f"cannot use {self.certificate} with {self.key}: {error.reason or error}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecretError(f"cannot read {path}: {error.strerror}") from None
