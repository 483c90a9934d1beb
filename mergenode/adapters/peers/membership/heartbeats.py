"""The calls to all neighbours: one task for each address, so that none waits for another."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mergenode.adapters.peers.membership.link import ChannelOf, Explain, Link, LinkParts, unexplained
from mergenode.adapters.peers.membership.membership import Membership
from mergenode.adapters.peers.membership.resolving import DNS, Resolve, ResolvedName, resolve
from mergenode.ports.administration import Neighbour
from mergenode.wire.membership import MOST_NEIGHBOURS
from mergenode.wire.views import is_address

TICK_SECONDS = 1.0

_Target = tuple[Neighbour, str]
"""Whom to call, and the name that the address was found under, or nothing."""


class Heartbeats:
    """Keeps the links to the neighbours of the settings, to those behind names, and to who calls this node.

    Runs in the event loop of the server: ``await run()`` until it is cancelled. Neighbours that do not answer, answer
    for ever or lie cost their own link time, and nothing else.
    """

    def __init__(
        self,
        membership: Membership,
        channel_of: ChannelOf,
        *,
        explain: Explain = unexplained,
        resolve: Resolve = resolve,
        draw: Callable[[], float] = random.random,
        tick_seconds: float = TICK_SECONDS,
        resolve_seconds: float = 30.0,
    ) -> None:
        self._membership, self._channel_of, self._explain = membership, channel_of, explain
        self._resolve, self._draw = resolve, draw
        self._tick, self._resolve_seconds = tick_seconds, resolve_seconds
        self._links: dict[_Target, tuple[Link, asyncio.Task[None]]] = {}
        self._names: dict[str, tuple[ResolvedName, asyncio.Task[None]]] = {}
        self._found: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until cancelled; then every call is ended."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._membership.listen(self._poked)
        with ThreadPoolExecutor(1, "mergenode-heads") as disk:
            parts = LinkParts(self._membership, self._channel_of, disk, self._explain, self._draw)
            try:
                while True:
                    self._changed.clear()
                    self._follow(parts)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._tick):
                            await self._changed.wait()
                    self._membership.tick()
            finally:
                tasks = [task for _, task in (*self._links.values(), *self._names.values())]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End ``run`` and wait until its channels are closed. Idempotent; on the same loop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _poked(self) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._changed.set)

    def _follow(self, parts: LinkParts) -> None:
        """Start and end tasks so that they are those of the topology, and wake links whose node is there again."""
        entries = self._membership.topology.neighbours
        self._follow_names([each.address for each in entries if each.address.startswith(DNS)])
        gone = self._find()
        chosen = self._chosen(entries)
        back = [each for each in self._callers(chosen) if each not in chosen]
        called = [each for each in (*chosen, *back) if is_address(each.address)][:MOST_NEIGHBOURS]
        targets = [(each, self._membership.name_of(each.address)) for each in called]
        for target in [each for each in self._links if each not in targets]:
            self._links.pop(target)[1].cancel()
            self._membership.hung_up(target[0].address, gone=target[0].address in gone)
        for neighbour, name in targets:
            running = self._links.get((neighbour, name))
            if running is None or self._ended(running[1]):
                link = Link(neighbour, parts, name=name, back=neighbour in back)
                self._links[neighbour, name] = link, asyncio.create_task(link.run())
        self._wake()

    def _follow_names(self, entries: list[str]) -> None:
        for entry in [each for each in self._names if each not in entries]:
            self._names.pop(entry)[1].cancel()
        for entry in [each for each in entries if each not in self._names]:
            name = ResolvedName(entry, self._resolve, self._membership.say)
            self._names[entry] = name, asyncio.create_task(name.run(self._changed.set, self._resolve_seconds))

    def _find(self) -> set[str]:
        """Tell who opens channels under which name an address was found; returns those that a name gave up."""
        before = self._found
        listed = {each.address for each in self._membership.topology.neighbours}  # these are called by themselves
        names = [(entry, name) for entry, (name, _) in self._names.items()]
        found = {address: entry for entry, name in reversed(names) for address in name.addresses}  # the first counts
        self._found = {address: entry for address, entry in found.items() if address not in listed}
        self._membership.found({address: self._names[entry][0].name for address, entry in self._found.items()})
        return {each for each, entry in before.items() if each not in self._found and entry in self._names}

    def _ended(self, task: asyncio.Task[None]) -> bool:
        if task.done() and not task.cancelled() and task.exception() is not None:
            self._membership.say("error", f"calls to a neighbour ended with a defect: {task.exception()!r}")
        return task.done()

    def _chosen(self, entries: tuple[Neighbour, ...]) -> list[Neighbour]:
        """The entries, and what names stand for."""
        fixed = [each for each in entries if not each.address.startswith(DNS)]
        found = [Neighbour(address) for name, _ in self._names.values() for address in name.addresses]
        return list(dict.fromkeys((*fixed, *found)))

    def _callers(self, chosen: list[Neighbour]) -> list[Neighbour]:
        """Who calls and is not reached by itself, unless the topology was set by hand."""
        if self._membership.topology.generation:
            return []
        links = [link for (neighbour, _), (link, _) in self._links.items() if neighbour in chosen]
        addresses = {each.address for each in chosen}
        # Also one that was called back first: the call back ends, and the one that was chosen takes its place.
        reached = {link.node_id for link in links if link.parked is None or link.parked.rival not in {"", *addresses}}
        callers = self._membership.callers()
        return [
            Neighbour(each.address) for each in callers if each.address not in addresses and each.node_id not in reached
        ]

    def _wake(self) -> None:
        """End pauses whose reason is gone: the node called, its ban ended, or its other address does not answer."""
        links = {link.address: link for link, _ in self._links.values()}
        calls = self._membership.callers()
        banned = self._membership.bans.banned()
        for link in links.values():
            since = link.waits_since
            if since is None or link.node_id in banned:
                continue
            if link.parked is None:
                if any(each.at > since and link.is_of(each.node_id, each.address) for each in calls):
                    link.wake()
            elif link.parked.rival:
                rival = links.get(link.parked.rival)
                if rival is None or rival.waits_since is not None:
                    link.wake()
            elif link.parked.banned:
                link.wake()
