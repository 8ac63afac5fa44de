"""Servers that belong together: Clusters, and a master with replicas and Sentinels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from aioblobcache.redis.keys import slot_of
from aioblobcache.redis.slotmap import SLOTS
from tests.support.ports import free_port
from tests.support.servers import RedisServer, running


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Return when servers that talk to each other have come to it; they tell nobody when."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except RedisError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Cluster:
    """Primaries that share the slots evenly, and behind each the same number of replicas."""

    def __init__(self, kind: str, folder: Path, *, primaries: int = 3, replicas: int = 0) -> None:
        self.bus_ports: dict[int, int] = {}
        self.nodes = [self._node(kind, folder) for _ in range(primaries * (1 + replicas))]
        self.primaries = self.nodes[:primaries]
        self._replicas = replicas

    def _node(self, kind: str, folder: Path) -> RedisServer:
        bus = free_port()
        node = RedisServer(
            kind,
            folder,
            *("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000"),
            *("--cluster-config-file", f"nodes-{bus}.conf", "--repl-diskless-sync-delay", "0"),
            *("--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no"),
        )
        self.bus_ports[node.port] = bus
        return node

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def url(self) -> str:
        return f"redis+cluster://{self.hosts}"

    def client(self, node: RedisServer) -> Redis:
        return Redis(port=node.port, decode_responses=True)

    def id_of(self, node: RedisServer) -> str:
        with self.client(node) as client:
            return str(client.execute_command("CLUSTER", "MYID"))

    def join(self) -> None:
        """Make one Cluster of the running nodes."""
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            with self.client(node) as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if node in self.primaries:
                    first_slot = self._last_slots()[number - 1] + 1 if number else 0
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", first_slot, self._last_slots()[number])
                if node is not first:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, self.bus_ports[first.port])
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes), "every node knows the others")
        for number, node in enumerate(self.nodes[len(self.primaries) :]):
            with self.client(node) as client:
                client.execute_command("CLUSTER", "REPLICATE", self.id_of(self.primaries[number % len(self.primaries)]))
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when every slot is served and every replica is linked, as every node sees it."""
        wait_until(lambda: all(self._is_ready(node) for node in self.nodes), "the cluster is ready")

    def ports_by_slot(self) -> dict[int, int]:
        """Who serves what, as the first node has it that runs."""
        return self._ports_as_seen_by(next(node for node in self.nodes if node.is_running))

    def mend(self) -> None:
        """Start what was stopped, give every slot back, and return when all nodes know that."""
        for node in self.nodes:
            if not node.is_running:
                node.start()
        self.wait_until_ready()
        self.restore()
        home = self.ports_by_slot()
        wait_until(lambda: all(self._ports_as_seen_by(node) == home for node in self.nodes), "the nodes agree")

    def _ports_as_seen_by(self, node: RedisServer) -> dict[int, int]:
        with self.client(node) as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        return {slot: port for first, last, (_, port, *_), *_ in ranges for slot in range(first, last + 1)}

    def serving(self, key: bytes) -> RedisServer:
        """The primary that serves a key."""
        return self.at(self.ports_by_slot()[slot_of(key)])

    def at(self, port: int) -> RedisServer:
        return next(node for node in self.nodes if node.port == port)

    def begin_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """From now on keys of the slot may be on either node."""
        with self.client(source) as giver, self.client(target) as taker:
            taker.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
            giver.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: RedisServer, target: RedisServer, most: int = 10) -> int:
        """Move some of the keys that are left; returns how many."""
        with self.client(source) as giver:
            keys = giver.execute_command("CLUSTER", "GETKEYSINSLOT", slot, most)
            if keys:
                giver.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, target: RedisServer) -> None:
        """Tell every primary who serves the slot now, the new one first."""
        for node in sorted(self.primaries, key=lambda node: node is not target):
            with self.client(node) as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def restore(self) -> None:
        """Give every slot back to the primary that had it at first."""
        for slot, port in self.ports_by_slot().items():
            home = self.primaries[next(n for n, last in enumerate(self._last_slots()) if slot <= last)]
            if home.port != port:
                source = self.at(port)
                self.begin_move(slot, source, home)
                while self.move_keys(slot, source, home):
                    pass
                self.end_move(slot, home)

    def _last_slots(self) -> list[int]:
        share = SLOTS / len(self.primaries)
        return [round((number + 1) * share) - 1 for number in range(len(self.primaries))]

    def flush(self) -> None:
        """Empty it."""
        for node in self.primaries:
            with self.client(node) as client:
                client.flushall()

    def _knows_all(self, node: RedisServer) -> bool:
        with self.client(node) as client:
            return int(client.cluster("INFO")["cluster_known_nodes"]) == len(self.nodes)

    def _is_ready(self, node: RedisServer) -> bool:
        with self.client(node) as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
            state = client.cluster("INFO")["cluster_state"]
            linked = node in self.primaries or client.info("replication").get("master_link_status") == "up"
        served = sum(entry[1] - entry[0] + 1 for entry in ranges) == SLOTS
        return state == "ok" and served and all(len(entry) == 3 + self._replicas for entry in ranges) and linked


@contextmanager
def running_cluster(cluster: Cluster) -> Iterator[None]:
    with ExitStack() as stack:
        for node in cluster.nodes:
            stack.enter_context(running(node))
        cluster.join()
        yield


class Sentinels:
    """A master, replicas, and Sentinels that watch them; fewer than half of the Sentinels may fail."""

    def __init__(
        self, kind: str, folder: Path, *, replicas: int = 2, sentinels: int = 3, service: str = "blobs"
    ) -> None:
        options = ("--repl-diskless-sync-delay", "0")
        self.service = service
        self.master = RedisServer(kind, folder, *options)
        self.replicas = [
            RedisServer(kind, folder, *options, "--replicaof", "127.0.0.1", str(self.master.port))
            for _ in range(replicas)
        ]
        self.sentinels = [self._sentinel(kind, folder, sentinels // 2 + 1) for _ in range(sentinels)]

    def _sentinel(self, kind: str, folder: Path, quorum: int) -> RedisServer:
        sentinel = RedisServer(kind, folder)
        config = folder / f"sentinel-{sentinel.port}.conf"
        config.write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {self.master.port} {quorum}\n"
            f"sentinel down-after-milliseconds {self.service} 500\n"
            f"sentinel failover-timeout {self.service} 3000\n"
        )
        sentinel.run_with(str(config), "--sentinel")
        return sentinel

    @property
    def servers(self) -> list[RedisServer]:
        return [self.master, *self.replicas]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def wait_until_watched(self) -> None:
        """Return when a failover could be done."""
        for replica in self.replicas:
            with Redis(port=replica.port) as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", "a replica is linked")
        for sentinel in self.sentinels:
            with Redis(port=sentinel.port) as client:
                wait_until(lambda: self._sees_all(client), "a Sentinel knows the others")

    def _sees_all(self, client: Redis) -> bool:
        state = client.sentinel_master(self.service)
        return (
            state["num-other-sentinels"] == len(self.sentinels) - 1
            and state["num-slaves"] == len(self.replicas)
            and not state["is_sdown"]
        )

    def master_port(self) -> int:
        """As the first of the Sentinels that still run has it."""
        for sentinel in self.sentinels:
            if sentinel.is_running:
                with Redis(port=sentinel.port) as client:
                    return int(client.sentinel_get_master_addr_by_name(self.service)[1])
        raise AssertionError("no Sentinel runs")


@contextmanager
def running_sentinels(group: Sentinels) -> Iterator[None]:
    with ExitStack() as stack:
        for server in (*group.servers, *group.sentinels):
            stack.enter_context(running(server))
        group.wait_until_watched()
        yield
