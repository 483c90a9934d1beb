"""One end of a measured transfer, in a process of its own: ``python -m benchmarks.wire.endpoint ROLE FOLDER ...``.

Certificates are ``certificate.pem``, ``key.pem`` and ``authority.pem`` in the folder. Servers print their port, then
their CPU seconds for every line on standard input. Clients print one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

PIECE = 1 << 20


def cpu() -> float:
    """CPU seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    """Largest resident memory of this process so far; ``ru_maxrss`` would begin with that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def pem(folder: Path) -> tuple[bytes, bytes, bytes]:
    """Certificate, key, authority."""
    certificate, key, authority = (
        (folder / f"{name}.pem").read_bytes() for name in ("certificate", "key", "authority")
    )
    return certificate, key, authority


def node_server(folder: Path, shelf_folder: Path, *files: str) -> None:
    """Serves the models in ``files`` by ``Blobs``."""
    import grpc

    from mergenode.adapters.engines.local.allocator import tune_allocator
    from mergenode.adapters.peers.weights.blob_service import BlobService
    from mergenode.adapters.peers.weights.shelf import Shelf

    tune_allocator()  # as in a node
    shelf = Shelf(shelf_folder, time.monotonic)
    roots = [shelf.put([Path(file)]).root.hex() for file in files]
    certificate, key, authority = pem(folder)
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)

    async def serve() -> None:
        server = grpc.aio.server()
        BlobService(shelf).register(server)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        print(json.dumps({"port": port, "roots": roots}), flush=True)
        await server.wait_for_termination()

    threading.Thread(target=answer, daemon=True).start()
    asyncio.run(serve())


def node_client(folder: Path, shelf_folder: Path, address: str, root: str, *held: str) -> None:
    """Fetches ``root``; ``held``: files of models that are on its shelf before."""
    import grpc

    from mergenode.adapters.engines.local.allocator import tune_allocator
    from mergenode.adapters.peers.port.channels import BULK
    from mergenode.adapters.peers.weights.fetching import Fetcher, Order
    from mergenode.adapters.peers.weights.shelf import Shelf
    from mergenode.adapters.peers.weights.sources import Source
    from mergenode.wire.blocks import Root

    tune_allocator()
    shelf = Shelf(shelf_folder, time.monotonic)
    for file in held:
        shelf.put([Path(file)])
    certificate, key, authority = pem(folder)
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    options = [*BULK, ("grpc.ssl_target_name_override", "localhost")]
    fetcher = Fetcher(shelf, lambda target: grpc.secure_channel(target, credentials, options=options))
    used, begun = cpu(), time.perf_counter()
    assert fetcher.fetch(Order(Root(bytes.fromhex(root)), lambda: [Source("server", address)]))
    report(begun, used)


def tls_server(folder: Path, file: Path) -> None:
    """Sends the file to whoever connects: what a plain copy through Python's ``ssl`` costs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    context.load_verify_locations(folder / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    threading.Thread(target=answer, daemon=True).start()
    buffer = memoryview(bytearray(PIECE))
    while True:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as connection, file.open("rb", buffering=0) as source:
            while count := source.readinto(buffer):
                connection.sendall(buffer[:count])


def tls_client(folder: Path, target: Path, address: str, size: str) -> None:
    """Receives ``size`` bytes into a file that is allocated before and synced after."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    context.load_verify_locations(folder / "authority.pem")
    host, _, port = address.rpartition(":")
    buffer, at = memoryview(bytearray(PIECE)), 0
    used, begun = cpu(), time.perf_counter()
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.posix_fallocate(file, 0, int(size))
    plain = socket.create_connection((host, int(port)))
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        while at < int(size):
            filled = 0
            while filled < min(PIECE, int(size) - at):
                filled += connection.recv_into(buffer[filled:])
            os.pwrite(file, buffer[:filled], at)
            at += filled
    os.fdatasync(file)
    report(begun, used)


def report(begun: float, used: float) -> None:
    """What a client says at its end."""
    found = {"seconds": time.perf_counter() - begun, "cpu": cpu() - used, "peak_mib": peak_mib()}
    print(json.dumps(found), flush=True)


def answer() -> None:
    """A line in, CPU seconds and peak memory out; ends the process when nobody asks any more."""
    for _ in sys.stdin:
        print(json.dumps({"cpu": cpu(), "peak_mib": peak_mib()}), flush=True)
    os._exit(0)


def main() -> None:
    """Play the role."""
    role, folder, *rest = sys.argv[1:]
    match role:
        case "node-server":
            node_server(Path(folder), Path(rest[0]), *rest[1:])
        case "node-client":
            node_client(Path(folder), Path(rest[0]), *rest[1:])
        case "tls-server":
            tls_server(Path(folder), Path(rest[0]))
        case "tls-client":
            tls_client(Path(folder), Path(rest[0]), *rest[1:])


if __name__ == "__main__":
    main()
