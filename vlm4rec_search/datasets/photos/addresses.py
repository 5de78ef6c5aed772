"""Which IP addresses a URL of a catalogue may lead to: none inside of a network unless that is allowed."""

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NEVER = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host
        "100.100.100.200/32",  # Alibaba's metadata
        "192.0.0.192/32",  # Oracle's metadata
        "fd00:ec2::/32",  # Amazon's metadata, DNS and time over IPv6
        "fd20:ce::/32",  # Google's metadata over IPv6
        "fec0::/10",  # site-local, deprecated
        "64:ff9b::/96",  # IPv4 behind a translator
        "64:ff9b:1::/48",  # likewise
    )
]
"""Networks where no photo is, though some of them count as private or even as public. The metadata service of most
clouds, 169.254.169.254, is link-local."""


def is_refused(address: str, allow_private: bool) -> bool:
    """Say whether an IP address must not be called: only public ones may, and private ones and loopback if allowed."""
    ip: Address = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    if ip.is_loopback:
        return not allow_private
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return True
    if any(ip in network for network in _NEVER):
        return True
    return not ip.is_global and not allow_private


def resolved(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host, as the name server orders them.

    Raises:
        OSError, UnicodeError: there is no such host.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
