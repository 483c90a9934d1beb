"""The section ``peers``: the port that other nodes and pushing teams call, who they are, and what they may take."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Self

from pydantic import field_validator, model_validator

from mergenode.settings.quantities import Address, ConfigPath, Size, split_address
from mergenode.settings.section import Section, setting, subsection

DNS = "dns:"
"""In front of a name all of whose addresses are neighbours, such as a headless Service."""

_TEXT = {"min_length": 1, "max_length": 128, "pattern": r"^[!-~]([ -~]*[!-~])?$"}


class TlsSettings(Section):
    """Certificates, PEM. The files are read again when they change: they can be rotated under a running node."""

    certificate: ConfigPath | None = setting(
        None,
        "Certificate of this node and those that signed it; for server and client.",
        unit="path",
        why="loopback needs none, and `mergenode certs` makes some for a trial",
    )
    key: ConfigPath | None = setting(
        None, "Private key of the certificate.", unit="path", why="it goes with the certificate"
    )
    authority: ConfigPath | None = setting(
        None,
        "Certificates that others have to be signed by; several while one authority follows another.",
        unit="path",
        why="it goes with the certificate",
    )

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        given = [self.certificate, self.key, self.authority]
        if any(given) and not all(given):
            raise ValueError("all three of certificate, key and authority, or none")
        return self

    @property
    def complete(self) -> bool:
        return self.certificate is not None


class RoleSettings(Section):
    """Who may do what: patterns for the URI and DNS names in a caller's certificate; * stands for any text."""

    peer: tuple[str, ...] = setting(
        ("spiffe://mergenode/peer/*",),
        "Nodes: they exchange heads and weights, and push what they forward.",
        unit="list of name patterns",
        why="`mergenode certs` writes these names",
    )
    pusher: tuple[str, ...] = setting(
        ("spiffe://mergenode/pusher/*",),
        "Teams: they push contributions.",
        unit="list of name patterns",
        why="`mergenode certs` writes these names",
    )
    admin: tuple[str, ...] = setting(
        ("spiffe://mergenode/admin/*",),
        "Operators: they drain, ban and look inside.",
        unit="list of name patterns",
        why="`mergenode certs` writes these names",
    )


class TokenSettings(Section):
    """Signed tokens (JWT) that let a team push without a certificate of its own."""

    keys: ConfigPath | None = setting(
        None,
        "Public keys that tokens are signed by, as JWKS or PEM; null: no tokens.",
        unit="path",
        why="certificates alone are enough until a team cannot have one",
    )
    issuer: str | None = setting(
        None, "Who has to have issued them; null: any with a right key.", unit="text", why="the key says it already"
    )
    audience: str = setting(
        "mergenode", "Whom they have to be meant for.", unit="text", why="a token for another service is none for us"
    )
    listen: Address = setting(
        None,
        "Address of a second port, with TLS, where a token is enough; null: none.",
        unit="host:port",
        why="the port of nodes wants a certificate of everybody",
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None when there is no such port."""
        return None if self.listen is None else split_address(self.listen)


class IntakeSettings(Section):
    """What teams may push. All of it is checked before the first byte of weights travels."""

    enabled: bool = setting(True, "Take pushes at all.", unit="true or false", why="it is what teams use")
    max_upload: Size = setting(
        "64GiB", "Largest single contribution.", unit="bytes, or text such as 64GiB", why="a 30 B model in bf16 fits"
    )
    daily_quota: Size = setting(
        "256GiB",
        "Most that one pusher may send in 24 hours.",
        unit="bytes, or text such as 64GiB",
        why="one team cannot fill the disk of all",
    )
    min_free: Size = setting(
        "2GiB",
        "Disk space that pushes leave free.",
        unit="bytes, or text such as 2GiB",
        why="the next fold and the next version need room",
    )
    expire_seconds: float = setting(
        3600.0,
        "How long an upload may stand still before it is dropped.",
        unit="seconds",
        why="a team that lost its line for lunch goes on where it was",
        gt=0,
    )


class PeersSettings(Section):
    """Other nodes and pushing teams, by gRPC."""

    listen: Address = setting(
        None,
        "Address of the gRPC port; null: none.",
        unit="host:port",
        why="a single node that watches directories needs none",
    )
    advertise: Address = setting(
        None,
        "Address that other nodes reach this one at; null: the one it listens on.",
        unit="host:port",
        why="both are equal unless there is a translation in between",
    )
    neighbours: tuple[str, ...] = setting(
        (),
        "Nodes to exchange with; dns:name:port stands for all addresses of a name.",
        unit="list of host:port",
        why="only you know them",
    )
    lineage: str = setting(
        "mergenode",
        "Name of the exchange: nodes of another one are not listened to.",
        unit="text",
        why="one exchange is the usual case",
        **_TEXT,
    )
    insecure: bool = setting(
        False,
        "Listen beyond loopback without certificates: everybody who reaches the port may do everything.",
        unit="true or false",
        why="nobody should do that by mistake",
    )
    reflection: bool = setting(
        False,
        "Tell callers which services there are.",
        unit="true or false",
        why="tools for trials need it, nodes do not",
    )
    tls: TlsSettings = subsection(TlsSettings, "Certificates.")
    roles: RoleSettings = subsection(RoleSettings, "Who may do what.")
    tokens: TokenSettings = subsection(TokenSettings, "Tokens of teams.")
    intake: IntakeSettings = subsection(IntakeSettings, "Pushes.")

    @field_validator("neighbours", mode="after")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            host, port = _parts(entry.removeprefix(DNS))
            if not host or not 0 < port < 1 << 16:
                raise ValueError("host:port such as node-b:50051, or dns:mergenode-headless:50051")
        if len(set(value)) < len(value):
            raise ValueError("every neighbour once")
        return value

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.listen is not None and not (self.insecure or self.tls.complete or is_loopback(self.listen)):
            raise ValueError(
                "an address on loopback; any other with certificates in peers.tls (`mergenode certs` makes some for a "
                "trial), or with `insecure: true` if the network is all yours"
            )
        if self.tokens.listen is not None and not (self.listen and self.tls.complete and self.tokens.keys):
            raise ValueError("peers.tokens.listen needs peers.listen, peers.tls and peers.tokens.keys")
        if self.neighbours and self.listen is None:
            raise ValueError("neighbours together with peers.listen only: they have to be able to call back")
        return self

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None when there is no port."""
        return None if self.listen is None else split_address(self.listen)


def is_loopback(address: str) -> bool:
    """Whether nobody outside this machine can reach ``host:port``. Of names only ``localhost`` is believed."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port) if port.isascii() and port.isdigit() else 0
