"""The agent out of the image's file system (daemonset/rootfs.sh), with a container's rights: NETK8S_ROOTFS names the folder."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netk8s import snapshot
from netk8s.collect import node as collector
from netk8s.model import Dump, Snapshot

TOKEN, PORT = "the-only-token", 29797
# What a container runtime makes of the pod: its own processes and mounts, a root that cannot be written, no other devices.
START = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t sysfs -o ro sysfs "$ROOT/sys"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t tmpfs tmpfs "$ROOT/dev"
for device in null urandom; do touch "$ROOT/dev/$device"; mount --bind "/dev/$device" "$ROOT/dev/$device"; done
exec chroot "$ROOT" /usr/bin/env -i PATH=/opt/netk8s/bin:/usr/sbin:/usr/bin:/sbin:/bin NODE_NAME=n1 PYTHONDONTWRITEBYTECODE=1 \
  setpriv --bounding-set "-all,$KEPT" --inh-caps -all netk8s agent --listen "127.0.0.1:$PORT" --accept "$DIGEST"
"""
RULES = """
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 10.9.0.1/24 dev v0
nft add table inet mine
nft add chain inet mine c '{ type filter hook input priority 0; }'
nft add rule inet mine c ip saddr 10.0.0.1 drop
iptables-nft -t nat -N KUBE-SERVICES
iptables-nft -t nat -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j DNAT --to-destination 192.168.1.2:6443
ip6tables-nft -A INPUT -s fd00::1 -j DROP
iptables-legacy -t mangle -A PREROUTING -m mark --mark 0x4000/0x4000 -j RETURN
ipset create plain hash:ip,port
ipset add plain 10.0.0.9,tcp:80
"""


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace with rules of every kind, by its file."""
    keeper = subprocess.Popen(["unshare", "--net", "sleep", "120"])
    path = f"/proc/{keeper.pid}/ns/net"
    try:
        while os.stat(path).st_ino == os.stat("/proc/self/ns/net").st_ino:
            time.sleep(0.01)
        subprocess.run(["nsenter", f"--net={path}", "sh", "-c", RULES], check=True)
        yield path
    finally:
        keeper.kill()
        keeper.wait()


def asked(space: str, root: Path, kept: str, folder: Path) -> Snapshot:
    """What the agent in the file system answers."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    env = {**os.environ, "ROOT": str(root), "KEPT": kept, "PORT": str(PORT), "DIGEST": digest}
    argv = ["nsenter", f"--net={space}", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", START]
    log = folder / "agent.log"
    with log.open("wb") as said:
        agent = subprocess.Popen(argv, env=env, stdout=said, stderr=said)
    bundle = folder / "bundle.tgz"
    curl = [
        "nsenter",
        f"--net={space}",
        "curl",
        "-sk",
        "-o",
        str(bundle),
        "-w",
        "%{http_code}",
        "-H",
        f"Netk8s-Token: {TOKEN}",
    ]
    try:
        end = time.monotonic() + 60
        while "one token" not in log.read_text():
            assert agent.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        done = subprocess.run(
            [*curl, f"https://127.0.0.1:{PORT}/v1/snapshot"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "200", log.read_text()
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait()
    return snapshot.read([str(bundle)])


def texts(dumps: tuple[Dump, ...]) -> dict[str, list[str]]:
    """What has no time, version or counter in it, by name."""
    shown = {d.origin.rpartition("/")[2]: bytes(d.data[:]).decode().splitlines() for d in dumps if d.node is not None}
    return {
        name: [re.sub(r"\[\d+:\d+\]$", "", line) for line in lines if not line.startswith("#")]
        for name, lines in shown.items()
    }


@pytest.mark.e2e
@pytest.mark.parametrize("kept", ["+net_admin", "+net_admin,+net_raw"])
def test_the_agent_in_the_image_reads_what_the_node_has(kept: str, space: str, tmp_path: Path) -> None:
    named = os.environ.get("NETK8S_ROOTFS")
    if not named:
        pytest.skip("NETK8S_ROOTFS names no file system of the image")
    found = asked(space, Path(named), kept, tmp_path)
    here = collector.take("n1", space)
    ours, theirs = texts(found.dumps), texts(here.dumps)
    legacy = "iptables-legacy-save.txt"
    lacking = {legacy} if kept == "+net_admin" else set()
    assert {legacy, "iptables-save.txt", "ip6tables-save.txt", "nft-ruleset.txt", "ipset-save.txt"} <= set(theirs)
    # The agent itself listens, and is gone when the node is read from outside.
    assert set(ours) ^ set(theirs) <= {"listening.txt", *lacking}
    assert (legacy in ours) is not bool(lacking)
    for name in (
        "iptables-save.txt",
        "ip6tables-save.txt",
        "nft-ruleset.txt",
        "ipset-save.txt",
        "ip-route.json",
        "ip-addr.json",
    ):
        assert ours[name] == theirs[name], name
    if lacking:
        assert any(legacy in gap.what and "root" in gap.what for gap in found.missing)
    else:
        assert ours[legacy] == theirs[legacy]
