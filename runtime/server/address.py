"""The addresses that the server listens on: bound before a model loads, so that a port in use is told at once."""

import errno
import ipaddress
import socket

from runtime.errors import AddressError


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket bound to the address but not yet listening, so that nobody connects before the model is loaded.

    `option` is what another port is asked for with.

    Raises:
        AddressError: the address is not to be had; the message says why.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (socket.gaierror, UnicodeError):
        raise AddressError(
            f"there is no host '{host}'", help="127.0.0.1 is this machine, 0.0.0.0 any network"
        ) from None
    except OSError as error:
        raise address_error(error, host, port, option) from None
    try:
        # A server that starts again need not wait until the connections of the last one have died away.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise address_error(error, host, port, option) from None
    return listener


def listen(listener: socket.socket, backlog: int) -> None:
    """Lets clients connect; raises AddressError when another process took the address in the meantime."""
    try:
        listener.listen(backlog)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise address_error(error, host, port) from None


def address_error(error: OSError, host: str, port: int, option: str = "--port") -> AddressError:
    """What the system says of an address, in words that say what to do."""
    if error.errno == errno.EADDRINUSE:
        return AddressError(
            f"port {port} on {host} is in use", help=f"stop what uses it, or take another with {option}"
        )
    if error.errno == errno.EACCES:
        return AddressError(f"port {port} needs more rights than you have", help=f"take a {option} from 1024 on")
    if error.errno == errno.EADDRNOTAVAIL:
        return AddressError(f"{host} is no address of this machine", help="0.0.0.0 listens on all that it has")
    return AddressError(f"cannot listen on {host}, port {port}: {error.strerror}")


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The URL of a bound socket, with the port that the system chose where 0 was asked for."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{authority(host, port)}"


def authority(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether a bound socket can be reached from this machine alone."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
