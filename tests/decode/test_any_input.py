"""Whatever comes in: facts or a DecodeError come out, of every decoder for every input."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from netk8s import plugins
from netk8s.errors import DecodeError
from netk8s.model import ConntrackEntry, ConntrackTable, Dump, Fact, NftChain, NftSet

TEXTS = {
    "ip_link": '[{"ifindex":2,"ifname":"a","flags":["UP"],"mtu":1,"link":"b","link_index":3,"link_netnsid":0,'
    '"linkinfo":{"info_kind":"vxlan","info_data":{"mode":"l2","id":1,"local":"10.0.0.1","remote6":"fd00::1","port":1,'
    '"learning":true,"external":true,"okey":"0.0.0.5","link":"x"},"info_slave_kind":"x","info_slave_data":{"hairpin":true,"isolated":false}}}]',
    "ip_addr": '[{"ifindex":2,"ifname":"a","addr_info":[{"family":"inet","local":"10.0.0.1","address":"10.0.0.2",'
    '"prefixlen":32,"scope":"global","secondary":true}]}]',
    "ip_route": '[{"dst":"default","gateway":"10.0.0.1","from":"10.0.0.0/8","dev":"a","flags":["onlink"],"metric":1,'
    '"tos":"0x10","table":"x","type":"local","prefsrc":"10.0.0.1"},{"dst":"10.0.0.0/8","flags":[],'
    '"nexthops":[{"via":{"family":"inet6","host":"fd00::1"},"dev":"a","weight":1,"flags":[]}]}]',
    "ip_rule": '[{"priority":0,"src":"10.0.0.0","srclen":8,"dst":"all","fwmark":"0x1","fwmask":"0x1","ipproto":"tcp",'
    '"sport_start":1,"sport_end":2,"dport":3,"uid_start":1,"uid_end":2,"tos":"CS1","table":"main","goto":3,'
    '"action":"prohibit","suppress_prefixlen":0,"not":null}]',
    "ip_neigh": '[{"dst":"10.0.0.1","dev":"a","lladdr":"02:00:00:00:00:01","state":["STALE"],"proxy":null}]',
    "observation": '{"schema":"netk8s.dev/observation/v1","source":"x","time":"y","sent":{"protocol":"tcp","src":"10.0.0.1",'
    '"sport":1,"dst":"10.0.0.2","dport":2},"result":"connected","answer":"data","endpoint":{"ip":"10.0.0.3","port":3},'
    '"source_seen":"10.0.0.1","seen":[{"place":"input","node":"a","dev":"b","src":"10.0.0.1","dst":"10.0.0.2","mark":1}],'
    '"traced":["a"],"path":[{"node":"a","table":"nat","chain":"c","rule":null,"action":"drop"}],"conntrack":{"original":'
    '{"src":"10.0.0.1","dst":"10.0.0.2"},"reply":{"src":"10.0.0.2","dst":"10.0.0.1"},"state":"z","mark":0}}',
    "elsewhere": '{"schema":"netk8s.dev/elsewhere/v1","addresses":["10.0.0.1"],"pods":[{"namespace":"a","labels":{"b":"c"},'
    '"ports":[{"name":"d","port":1,"protocol":6}],"endpoints":["10.0.0.2"],"clients":["e f 10.0.0.3"]}],"idle":["a/g"]}',
    "ip_text": "2: a@if3: <UP> mtu 1 qdisc x master b state UP mode DEFAULT\n    link/ether 02:00:00:00:00:01 link-netnsid 0 "
    "promiscuity 0\n    macvlan mode source remotes (1) 02:00:00:00:00:02\n    bridge_slave state x cost 2 hairpin on\n"
    "    alias x y\n    altname z\n    inet 10.0.0.1 peer 10.0.0.2/32 scope global secondary a\n3: v: <> mtu 2\\    link/none "
    "promiscuity 0\\    vxlan id 1 local 10.0.0.1 dev a dstport 1 nolearning external\n4: b    inet6 fd00::1/64 scope link\n",
    "bridge_vlan": '[{"ifname":"a","vlans":[{"vlan":1,"vlanEnd":2,"flags":["PVID"]}]}]',
    "nft_hooks": "family ip {\n\thook ingress device eth0 {\n\t\t-0000000100 chain netdev t c [nf_tables]\n\t}\n"
    "\thook input {\n\t\t 0000000000 ipt_do_table [ip_tables]\n\t\t+0000000100 chain ip nat INPUT [nf_tables]\n\t}\n}\n",
    "bridge_fdb": '[{"mac":"02:00:00:00:00:01","ifname":"a","dst":"10.0.0.1","flags":["self"],"state":"permanent"}]',
    "nft_json": '{"nftables":[{"table":{"family":"ip","name":"t","flags":["dormant"]}},{"map":{"family":"ip","name":"m",'
    '"table":"t","type":["ipv4_addr","inet_service"],"map":"verdict","flags":["dynamic"],"timeout":5,"elem":[[{"elem":'
    '{"val":{"concat":["10.0.0.1",80]},"comment":"x","expires":3}},{"goto":{"target":"c"}}],["*",{"drop":null}]]}},'
    '{"chain":{"family":"ip","table":"t","name":"c","type":"nat","hook":"input","prio":-5,"policy":"drop"}},'
    '{"rule":{"family":"ip","table":"t","chain":"c","comment":"y","expr":[{"match":{"op":"!=","left":{"&":[{"meta":'
    '{"key":"mark"}},3]},"right":{"set":[1,{"range":[2,3]},{"prefix":{"addr":"10.0.0.0","len":8}}]}}},{"vmap":{"key":'
    '{"numgen":{"mode":"inc","mod":2,"offset":1}},"data":{"set":[[0,{"drop":null}]]}}},{"limit":{"rate":1,"per":"day"}},'
    '{"dnat":{"family":"ip","addr":{"map":{"key":{"jhash":{"mod":2,"expr":{"ct":{"key":"mark"}}}},"data":"@m"}},"port":'
    '80,"flags":"random"}},{"set":{"op":"add","elem":{"elem":{"val":1}},"set":"@m","stmt":[{"counter":null}]}},'
    '{"xt":{"type":"match","name":"z"}},{"reject":{"type":"icmp","expr":"no-route"}},{"mangle":{"key":{"payload":'
    '{"protocol":"ip","field":"daddr"}},"value":{"fib":{"result":"oif","flags":["saddr","iif"]}}}}]}}]}',
    "kubectl": json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "kind": "Service",
                    "metadata": {"name": "a", "namespace": "b"},
                    "spec": {
                        "type": "LoadBalancer",
                        "clusterIPs": ["10.0.0.1"],
                        "externalIPs": ["10.0.0.2"],
                        "loadBalancerSourceRanges": ["10.0.0.0/8"],
                        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
                        "healthCheckNodePort": 1,
                        "ports": [{"name": "p", "port": 1, "targetPort": "x", "nodePort": 3, "protocol": "UDP"}],
                    },
                    "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.3", "ipMode": "VIP"}]}},
                },
                {
                    "kind": "EndpointSlice",
                    "metadata": {"labels": {"kubernetes.io/service-name": "a"}},
                    "ports": [{"name": "p", "port": 1, "protocol": "TCP"}],
                    "endpoints": [
                        {
                            "addresses": ["10.0.0.1"],
                            "conditions": {"ready": True, "serving": True, "terminating": False},
                            "targetRef": {"kind": "Pod", "name": "x"},
                            "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]},
                            "topology": {"kubernetes.io/hostname": "n"},
                        }
                    ],
                },
                {
                    "kind": "Endpoints",
                    "metadata": {"name": "a", "annotations": {"endpoints.kubernetes.io/over-capacity": "truncated"}},
                    "subsets": [
                        {
                            "ports": [{"name": "p", "port": 1, "protocol": "TCP"}],
                            "addresses": [
                                {
                                    "ip": "10.0.0.1",
                                    "nodeName": "n",
                                    "targetRef": {"kind": "Pod", "name": "x", "namespace": "y"},
                                }
                            ],
                            "notReadyAddresses": [{"ip": "10.0.0.2"}],
                        }
                    ],
                },
                {
                    "kind": "Pod",
                    "metadata": {"name": "a"},
                    "spec": {"hostNetwork": True, "containers": [{"ports": [{"containerPort": 1, "hostPort": 2}]}]},
                    "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
                },
                {
                    "kind": "Node",
                    "metadata": {"name": "a", "labels": {"x": "y"}},
                    "spec": {"podCIDR": "10.0.0.0/8", "podCIDRs": ["10.0.0.0/8"]},
                    "status": {"addresses": [{"type": "x", "address": "y"}], "nodeInfo": {"kubeProxyVersion": "v1"}},
                },
            ],
        }
    ),
    "sysctl": "net.ipv4.ip_forward = 1\nnet/ipv4/conf/a.b/x: 3\n",
    "listening": 'Netid State Recv-Q Send-Q Local Address:Port\ntcp LISTEN 0 1 [::1]%a:80 *:* users:(("a",pid=1))\n',
    "ipvsadm_save": "-A -t 10.0.0.1:80 -s rr -p 5 -M 255.0.0.0 -b flag-1\n-a -t 10.0.0.1:80 -r [fd00::1]:80 -m -w 1 -x 2\n"
    "-A -f 5 -6 -s mh -o\n",
    "ipvsadm_list": "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
    "TCP  10.0.0.1:80 rr (flag-1) persistent 5 mask 255.0.0.0 ops\n  -> [fd00::1]:80 Masq 1 0 0\nFWM  5 IPv6 mh\n",
    "conntrack": "tcp 6 9 SYN_SENT src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=2 "
    "dport=1 mark=0 zone=1 use=1\nipv6 10 icmpv6 58 9 src=fd00::1 dst=fd00::2 type=128 code=0 id=1 src=fd00::2 dst=fd00::1 "
    "type=129 code=0 id=1\n",
    "ipset_save": 'create a hash:ip family inet\nadd a 10.0.0.1\ncreate "b c" list:set size 8\nadd "b c" a\n',
    "nft_text": "table ip t {\n\tflags dormant\n\tmap m {\n\t\ttype ipv4_addr . inet_service : verdict\n\t\tflags dynamic\n"
    '\t\telements = { 10.0.0.1 . 80 timeout 5s comment "x" : goto c,\n\t\t\t     * : drop }\n\t}\n\n\tchain c {\n'
    "\t\ttype nat hook input priority dstnat - 5; policy accept;\n"
    '\t\tmeta mark & 3 != { 1, 2-3, 10.0.0.0/8 } numgen inc mod 2 vmap { 0 : drop } comment "y"\n'
    "\t\ttcp flags syn / fin,syn limit rate over 10 mbytes/second dnat ip to jhash ct mark mod 2 seed 0x1 map @m random\n"
    '\t\tct original ip saddr 10.0.0.1 log prefix "z" reject with icmp no-route # handle 5\n'
    "\t\tadd @m { ip saddr . tcp dport timeout 5s counter } fib saddr . iif oif missing dnat to [fd00::1]:80-90\n\t}\n}\n",
}
YAML = "apiVersion: v1\nkind: Pod\nmetadata: {name: 'a'}\nspec:\n  containers:\n  - ports:\n    - containerPort: 1\n"

DECODERS = {name.__name__.rpartition(".")[2]: name for name in plugins.modules("netk8s.decode")}
MINE = [pytest.param(DECODERS[name], text, id=name) for name, text in TEXTS.items()]
MINE.append(pytest.param(DECODERS["kubectl"], YAML, id="kubectl-yaml"))

WORDS = st.sampled_from(
    ["", "all", "10.0.0.1", "fd00::1%a", "10.0.0.0/8", "0x10", "-1", "None", "\ud800", "٣", "a/b", "on"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS | st.just(10**400)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=3)
)


def strings(value: object) -> Iterator[str]:
    """Every text within a fact, the raw details of a device aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, Mapping) and any(isinstance(inner, NftChain | NftSet) for inner in value.values()):
        for name, inner in value.items():
            yield name
            yield from strings(inner)
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from strings(getattr(value, name))


def facts(decoder: ModuleType, dump: Dump) -> Iterator[Fact | ConntrackEntry]:
    """What a decoder makes of a dump, down to the entries that it decodes when they are asked for."""
    for fact in decoder.decode(dump):
        if isinstance(fact, ConntrackTable):
            yield from fact.connections
        else:
            yield fact


def run(decoder: ModuleType, data: bytes) -> None:
    dump = Dump("x", data, "node")
    assert decoder.sniff(dump) in (True, False)
    refused = None
    try:
        for fact in facts(decoder, dump):
            assert hash(fact) is not None
            for text in strings(fact):
                text.encode()
    except DecodeError as error:
        refused = error
    if refused is not None:
        assert refused.origin == "x"
        # YAML also ends lines at CR, NEL, LS and PS.
        assert 0 <= refused.line <= len(data.decode("utf-8", "replace").splitlines()) + 1
        str(refused).encode()


def spots(value: object) -> Iterator[tuple[object, object]]:
    """(holder, key) of every value within a value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from spots(inner)


@pytest.mark.parametrize(("decoder", "text"), MINE)
def test_the_examples_are_recognised_and_decode(decoder: ModuleType, text: str) -> None:
    assert decoder.sniff(Dump("x", text.encode()))
    assert list(decoder.decode(Dump("x", text.encode())))


@pytest.mark.parametrize("decoder", [pytest.param(DECODERS[name], id=name) for name in TEXTS])
@given(data=st.binary(max_size=200))
def test_any_bytes(decoder: ModuleType, data: bytes) -> None:
    run(decoder, data)


@pytest.mark.parametrize(("decoder", "text"), MINE)
@given(data=st.data())
def test_damaged_text(decoder: ModuleType, text: str, data: st.DataObject) -> None:
    raw = text.encode()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 20)))
    run(decoder, raw[:start] + data.draw(st.binary(max_size=6)) + raw[end:])


@pytest.mark.parametrize(
    ("decoder", "text"),
    [case for case in MINE if case.values[1].startswith(("[", "{"))],  # type: ignore[union-attr]
)
@given(data=st.data())
def test_json_of_wrong_shapes(decoder: ModuleType, text: str, data: st.DataObject) -> None:
    value = json.loads(text)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(spots(value))))
        holder[key] = data.draw(VALUES)  # type: ignore[index]
        if not list(spots(value)):
            break
    run(decoder, json.dumps(value).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("decoder", [pytest.param(DECODERS[name], id=name) for name in TEXTS])
@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"apiVersion":' * 50_000,
        b'[{"dst":' + b"9" * 5000 + b',"flags":[]}]',
        b'[{"metric":NaN,"dst":"10.0.0.0/8","flags":[]}]',
        b'"' * 100_000,
        b'["\\' * 20_000,
        b"\xff\xfe[\x00]\x00",
        b"\0" * 10_000,
        b"[]",
        b"[] []",
        b"{} {}",
        b"null",
        b"\n\n\n",
    ],
    ids=lambda data: repr(data[:16]),
)
def test_hostile_bytes(decoder: ModuleType, data: bytes) -> None:
    run(decoder, data)
    if data.strip() in (b"[]", b"[] []", b"", b"null"):
        assert not decoder.sniff(Dump("x", data))


@pytest.mark.parametrize(("decoder", "text"), MINE)
def test_mapped_dumps_are_as_good_as_bytes(decoder: ModuleType, text: str, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_text(text)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        dump = Dump("x", mapped)  # type: ignore[arg-type]
        assert decoder.sniff(dump)
        assert list(map(repr, facts(decoder, dump))) == list(map(repr, facts(decoder, Dump("x", text.encode()))))


def test_no_two_decoders_take_the_same_text() -> None:
    for text in (*TEXTS.values(), YAML):
        takers = [name for name, decoder in DECODERS.items() if decoder.sniff(Dump("x", text.encode()))]
        assert len(takers) == 1, (text[:50], takers)
