"""TLS for REST and gRPC, from certificate files that are checked before anything listens, and whenever they change."""

import contextlib
import logging
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import SecretError
from runtime.model_path import is_stream
from runtime.server.stamp import Stamp, stamp

log = logging.getLogger(__name__)

# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for.
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)


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
            SecretError: a file can't be read or isn't what it should be, certificate and key don't belong together, or
                a certificate has expired or isn't valid yet.
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
        _check_dates(self.certificate, _shown(context, self.certificate))
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            # Who comes back with a ticket isn't checked again, though the authorities may have changed.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError:
                raise SecretError(f"{self.client_ca} holds no certificate in PEM format") from None
            _check_dates(self.client_ca, context.get_ca_certs())
        return context

    def pem(self) -> tuple[bytes, bytes, bytes | None]:
        """The key, the certificates and the authorities of clients, as gRPC takes them; raises SecretError."""
        authorities = None if self.client_ca is None else _read(self.client_ca)
        return _read(self.key), _read(self.certificate), authorities

    def stamps(self) -> list[Stamp | None]:
        """What changes with the files."""
        return [stamp(path) for path in filter(None, (self.certificate, self.key, self.client_ca))]

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


class Shown:
    """The certificates that new connections are shown; those that stand keep what they were shown.

    Attributes:
        context: what HTTP over TLS needs; it stays, whatever it shows.
        pem: what gRPC needs, see `Certificates.pem`; another object when it has changed.
    """

    def __init__(self, certificates: Certificates) -> None:
        """Reads the files; raises SecretError."""
        self._certificates = certificates
        self._stamps = certificates.stamps()
        self.context = self._newest = certificates.context()
        self.context.sni_callback = self._choose
        self.pem = certificates.pem()

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Has a connection show the newest: OpenSSL asks at each handshake, also where the client names no server."""
        connection.context = self._newest

    def refresh(self) -> None:
        """Reads files that have changed. Those that can't be read or are wrong are told, and what is shown stays."""
        stamps = self._certificates.stamps()
        if stamps == self._stamps:
            return
        try:
            newest, pem = self._certificates.context(), self._certificates.pem()
        except (SecretError, OSError) as error:  # one may go away between two looks
            if stamps == self._certificates.stamps():
                self._stamps = stamps
                log.error("the certificates stay as they were: %s", error)
            return
        if stamps == self._certificates.stamps():  # else they are being written, and are looked at again
            self._stamps, self._newest, self.pem = stamps, newest, pem
            log.info("read the certificates in %s", self._certificates.certificate)


def _shown(context: ssl.SSLContext, path: Path) -> Sequence[dict[str, Any]]:
    """The certificate in `path` that a server's context shows to a client, none where it isn't one for servers."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.load_verify_locations(path)
    trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = trusting.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    try:
        for side in (client, server, client):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLError:
        return []
    return [client.getpeercert() or {}]


def _check_dates(path: Path, certificates: Sequence[dict[str, Any]]) -> None:
    """Raises SecretError where there are certificates, as `ssl` describes them, and none of them is valid now."""
    now = time.time()
    begins = [ssl.cert_time_to_seconds(each["notBefore"]) for each in certificates]
    ends = [ssl.cert_time_to_seconds(each["notAfter"]) for each in certificates]
    if any(begin <= now <= end for begin, end in zip(begins, ends, strict=True)):
        return
    if ends and max(ends) < now:
        raise SecretError(f"the certificate in {path} expired on {_day(max(ends))}", help="have it renewed")
    if begins:
        raise SecretError(
            f"the certificate in {path} is not valid before {_day(min(begins))}",
            help="wait for that, or have another issued, if the clock of this machine is right",
        )


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _read(path: Path) -> bytes:
    if is_stream(path):  # it is read more than once, and who waits for its other end answers nobody
        raise SecretError(f"cannot read {path}: it is not a regular file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecretError(f"cannot read {path}: {error.strerror}") from None
