"""Files, folders and archives become dumps, whatever they are packed in and whoever packed them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import mmap
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from netk8s import snapshot
from netk8s.errors import DecodeError, UsageError
from netk8s.model import Dump, Missing, Snapshot
from netk8s.snapshot import _compression, _reading

CASE = {
    "case.json": b"{}",
    "observed.jsonl": b"{}",
    "kernel-trace/flow.txt": b"trace",
    "README.md": b"about",
    ".hidden": b"x",
    "cluster/services.json": b"services",
    "cluster/.swp": b"x",
    "nodes/a/iptables-save.txt": b"rules of a",
    "nodes/a/iptables-save-counters.txt": b"[1:2] rules of a",
    "nodes/b/ip-route.json": b"[]",
    "nodes/b/iptables-save-counters.txt": b"[1:2] rules of b",
}
EXPECTED = [
    ("cluster/services.json", None, b"services"),
    ("nodes/a/iptables-save.txt", "a", b"rules of a"),
    ("nodes/b/ip-route.json", "b", b"[]"),
    ("nodes/b/iptables-save-counters.txt", "b", b"[1:2] rules of b"),
]


def folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def tar(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def told(found: Snapshot) -> list[tuple[str, str | None, bytes]]:
    return [(dump.origin, dump.node, dump.data[:]) for dump in found.dumps]


def file(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


PACKED: list[Callable[[bytes], bytes]] = [
    bytes,
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstandard.ZstdCompressor(write_checksum=True).compress,
    lambda data: zstandard.compress(gzip.compress(data)),
]
packed_each_way = pytest.mark.parametrize("pack", PACKED, ids=["plain", "gz", "bz2", "xz", "zst", "gz.zst"])


def test_folder_in_the_layout(tmp_path: Path) -> None:
    assert told(snapshot.read([str(folder(tmp_path, CASE))])) == EXPECTED


def test_folder_around_the_layout(tmp_path: Path) -> None:
    found = told(snapshot.read([str(folder(tmp_path / "x" / "y", CASE).parent)]))
    assert found == [(f"y/{origin}", node, data) for origin, node, data in EXPECTED]


def test_loose_files_beside_the_layout_are_read_with_the_given_node(tmp_path: Path) -> None:
    path = folder(tmp_path, {"nodes/a/x.txt": b"x", "more.json": b"{}", "other/y.txt": b"y"})
    assert told(snapshot.read([str(path)], node="n")) == [("more.json", "n", b"{}"), ("nodes/a/x.txt", "a", b"x")]


def test_folder_of_one_node(tmp_path: Path) -> None:
    path = folder(tmp_path, CASE) / "nodes" / "a"
    assert told(snapshot.read([str(path)])) == [("iptables-save.txt", "a", b"rules of a")]
    assert snapshot.read([str(path)], node="given").dumps[0].node == "given"
    assert snapshot.read([str(path / "iptables-save.txt")]).dumps[0].node == "a"
    loose = folder(tmp_path / "loose", {"save.txt": b"x"})
    assert told(snapshot.read([str(loose)])) == [("save.txt", None, b"x")]


def test_folder_of_folders_named_by_node(tmp_path: Path) -> None:
    path = folder(tmp_path, {"a/save.txt": b"1", "b/save.txt": b"2"})
    assert told(snapshot.read([str(path)])) == [("a/save.txt", "a", b"1"), ("b/save.txt", "b", b"2")]


def test_dumps_of_pods_own_namespaces(tmp_path: Path) -> None:
    files = {
        "nodes/a/ip-link.json": b"1",
        "nodes/a/pods/default_web-0/ip-link.json": b"2",
        "nodes/a/pods/kube-system_dns_1f2e/ip-addr.json": b"3",
        "nodes/b/pods/x_y/ip-link.txt.gz": gzip.compress(b"4"),
        "nodes/b/pods/loose.txt": b"no",
        "nodes/b/pods/nounderscore/x.txt": b"no",
        "nodes/b/other/x_y/x.txt": b"no",
    }
    expected = [
        ("a", None, b"1"),
        ("a", "default/web-0", b"2"),
        ("a", "kube-system/dns", b"3"),
        ("b", "x/y", b"4"),
    ]

    def places(given: Path | str, **words: str) -> list[tuple[str | None, str | None, bytes]]:
        return sorted(((d.node, d.pod, d.data) for d in snapshot.read([str(given)], **words).dumps), key=lambda d: d[2])

    path = folder(tmp_path / "case", files)
    assert places(path) == expected
    assert places(tmp_path) == expected
    for prefix in ("", "a/b/"):
        packed = file(tmp_path / "x.tar", tar({prefix + name: data for name, data in files.items()}))
        assert places(packed) == expected
    # A folder or file given by itself is told by where it lies; an archive has nothing around it.
    assert places(path / "nodes" / "a") == expected[:3]
    assert places(path / "nodes" / "a" / "pods" / "default_web-0") == [expected[1]]
    assert places(path / "nodes" / "a" / "pods" / "default_web-0" / "ip-link.json") == [expected[1]]
    assert places(path / "nodes" / "a", node="given")[1] == ("given", "default/web-0", b"2")
    inside = {name.removeprefix("nodes/a/"): data for name, data in files.items() if name.startswith("nodes/a/")}
    packed = file(tmp_path / "y.tar", tar(inside))
    assert places(packed, node="a") == expected[:3]
    snapshot.save(snapshot.read([str(path)]), str(tmp_path / "again.tgz"))
    assert places(tmp_path / "again.tgz") == expected


@packed_each_way
@pytest.mark.parametrize("prefix", ["", "./", "case/", "./a/long/way/", "/"])
def test_archives(tmp_path: Path, pack: Callable[[bytes], bytes], prefix: str) -> None:
    data = pack(tar({prefix + name: data for name, data in CASE.items()}))
    assert told(snapshot.read([file(tmp_path / "no-suffix", data)])) == EXPECTED
    assert told(snapshot.read(["-"], stdin=io.BytesIO(data))) == EXPECTED


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_with_long_names(tmp_path: Path, form: int) -> None:
    node = "n" * 60
    files = {f"{'d' * 80}/nodes/{node}/{'f' * 50}.txt": b"x" * 1000, f"{'d' * 80}/nodes/{node}/g": b""}
    found = told(snapshot.read([file(tmp_path / "t", tar(files, form))]))
    assert found == [(f"nodes/{node}/{'f' * 50}.txt", node, b"x" * 1000), (f"nodes/{node}/g", node, b"")]


@packed_each_way
def test_single_files(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = file(tmp_path / "dump", pack(b"*nat\nCOMMIT\n"))
    assert told(snapshot.read([path], node="n")) == [(path, "n", b"*nat\nCOMMIT\n")]
    stdin = io.BytesIO(pack(b"*nat\n"))
    assert told(snapshot.read(["-"], stdin=stdin)) == [("<stdin>", None, b"*nat\n")]


@packed_each_way
def test_packed_files_in_a_folder_keep_their_name(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    files = {"nodes/a/iptables-save.txt.gz": pack(b"rules"), "nodes/a/iptables-save-counters.txt": b"no"}
    expected = [("nodes/a/iptables-save.txt.gz", "a", b"rules")]
    assert told(snapshot.read([str(folder(tmp_path / "f", files))])) == expected
    assert told(snapshot.read([file(tmp_path / "t", tar(files))])) == expected


def test_members_of_gzip_and_zstandard_follow_each_other(tmp_path: Path) -> None:
    for pack in (gzip.compress, bz2.compress, lzma.compress, zstandard.compress):
        path = file(tmp_path / "x", pack(b"one ") + pack(b"two ") + pack(b"three"))
        assert snapshot.read([path]).dumps[0].data == b"one two three"
    padded = file(tmp_path / "padded", gzip.compress(b"one") + bytes(3000))
    assert snapshot.read([padded]).dumps[0].data == b"one"


def test_big_plain_files_are_mapped(tmp_path: Path) -> None:
    data = b"x" * (snapshot.MAP_FROM + 1)
    path = folder(tmp_path, {"nodes/a/big.txt": data, "nodes/a/small.txt": b"y"})
    big, small = snapshot.read([str(path)]).dumps
    assert isinstance(big.data, mmap.mmap)
    assert big.data[:] == data
    assert isinstance(small.data, bytes)
    alone = snapshot.read([str(path / "nodes/a/big.txt")]).dumps[0]
    assert isinstance(alone.data, mmap.mmap)
    packed = snapshot.read([file(tmp_path / "z", zstandard.compress(data))]).dumps[0]
    assert packed.data == data


def test_byte_order_marks(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        path = file(tmp_path / encoding, "*nat\nä".encode(encoding))
        assert snapshot.read([path]).dumps[0].data == "*nat\nä".encode()


def test_colliding_origins_are_told_apart(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", CASE), folder(tmp_path / "two", CASE)
    other = file(tmp_path / "other", b"x")
    origins = [dump.origin for dump in snapshot.read([str(one), str(two) + "/", other]).dumps]
    assert origins == [f"{path}/{origin}" for path in (one, two) for origin, _, _ in EXPECTED] + [other]


def test_the_same_path_twice_is_read_once(tmp_path: Path) -> None:
    path = str(folder(tmp_path / "one", CASE))
    assert told(snapshot.read([path, f"{path}/.", "-", "-"], stdin=io.BytesIO(b"x"))) == [
        *EXPECTED,
        ("<stdin>", None, b"x"),
    ]


# ---------------------------------------------------------------- what cannot be read


def refused(path: str, why: str, **words: object) -> DecodeError:
    with pytest.raises(DecodeError, match=why) as error:
        snapshot.read([path], **words)  # type: ignore[arg-type]
    return error.value


def test_nothing_to_read(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "gone"), "no such file").origin == str(tmp_path / "gone")
    refused(str(tmp_path), "holds no dumps")
    refused(str(folder(tmp_path / "only", {"case.json": b"{}"})), "holds no dumps")
    refused(file(tmp_path / "empty", b""), "is empty")
    refused("-", "pipe a dump in", stdin=io.BytesIO())
    refused("a\0b", "cannot be read")
    refused(file(tmp_path / "t", tar({"case.json": b"{}"})), "holds no dumps")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(str(tmp_path / "loop"), "cannot be read")


def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.geteuid() == 0:
        # Root may read everything: ask as somebody else, in a process that is given up afterwards.
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and folder != folder.parent and "pytest" in str(folder):
                folder.chmod(0o755)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                snapshot.read([str(path)])
            except DecodeError as error:
                os._exit(0 if "may not read it" in str(error) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    refused(str(path), "may not read it")


def test_several_snapshots_at_once(tmp_path: Path) -> None:
    path = folder(tmp_path, {"one/nodes/a/x": b"x", "two/nodes/a/x": b"x"})
    refused(str(path), r"holds 2 snapshots \(one, two")


@pytest.mark.parametrize("pack", PACKED[1:], ids=["gz", "bz2", "xz", "zst", "gz.zst"])
def test_cut_off_and_damaged_compression(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = pack(os.urandom(5000))
    for wrong in (data[:-1], data[: len(data) // 2], data[:20] + b"\xff\0\xff" + data[23:], data + b"more"):
        error = refused(file(tmp_path / "x", wrong), "damaged or cut off; copy the file again")
        assert error.origin == str(tmp_path / "x")


def test_cut_off_archives(tmp_path: Path) -> None:
    data = tar({"nodes/a/x.txt": b"x" * 3000})
    for length in (512 + 100, 513, 512 + 3000, 512 + 3072, 512 + 3072 + 100):
        refused(file(tmp_path / "x", data[:length]), "tar archive is cut off")
    refused(file(tmp_path / "x", gzip.compress(data[:700])), "tar archive is cut off")
    refused(file(tmp_path / "x", data[: 512 + 3072] + b"rubbish" * 200), "tar archive is cut off")


@pytest.mark.parametrize("pack", PACKED[1:5], ids=["gz", "bz2", "xz", "zst"])
def test_bombs(tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compression, "BOMB_BYTES", 1 << 20)
    path = file(tmp_path / "x", pack(bytes(20 << 20)))
    refused(path, "more than 300 times its size")


def test_the_sum_of_all_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reading, "MOST_BYTES", 1000)
    for name, data in (("plain", bytes(1001)), ("gz", gzip.compress(bytes(1001)))):
        refused(file(tmp_path / name, data), "GiB decompressed; give fewer")
    refused(file(tmp_path / "t", tar({"a": bytes(600), "b": bytes(600)})), "GiB decompressed")
    with pytest.raises(DecodeError, match="GiB decompressed"):
        snapshot.read([file(tmp_path / "1", bytes(600)), file(tmp_path / "2", bytes(600))])


def test_an_archive_cannot_reach_out(tmp_path: Path) -> None:
    secret = file(tmp_path / "secret", b"secret")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"nodes/a/{kind.decode()}")
            member.type, member.linkname, member.size = kind, secret, 0
            archive.addfile(member)
        for name in ("../../etc/x", "nodes/../../y", "nodes/a/\x1b[31mred.txt", "nodes/a/ok.txt"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"ok"))
    found = told(snapshot.read([file(tmp_path / "t", packed.getvalue())]))
    assert found == [("nodes/a/\\x1b[31mred.txt", "a", b"ok"), ("nodes/a/ok.txt", "a", b"ok")]


def test_a_folder_is_not_left_by_links(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    path = folder(tmp_path / "f", {"nodes/a/x.txt": b"x"})
    (path / "nodes/a/out.txt").symlink_to(secret)
    (path / "nodes/a/in.txt").symlink_to("x.txt")
    (path / "nodes/b").symlink_to(tmp_path)
    os.mkfifo(path / "nodes/a/pipe")
    origins = [dump.origin for dump in snapshot.read([str(path)]).dumps]
    assert origins == ["nodes/a/in.txt", "nodes/a/x.txt"]


def test_an_archive_in_a_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    path = folder(tmp_path, {"x.txt": b"x", "old.tgz": gzip.compress(tar({"y": b"y"}))})
    found = snapshot.read([str(path)])
    assert [dump.origin for dump in found.dumps] == ["x.txt"]
    assert found.missing == (Missing("the archive old.tgz", "the dumps in it; give it by itself, with --dump"),)


def test_a_pipe_is_read_as_a_file(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(b"*nat\n"))
    os.close(writing)
    try:
        assert snapshot.read([f"/dev/fd/{reading}"]).dumps[0].data == b"*nat\n"
    finally:
        os.close(reading)


def attempt(data: bytes) -> None:
    try:
        for dump in snapshot.read(["-"], stdin=io.BytesIO(data)).dumps:
            assert isinstance(dump.data, bytes)
            dump.origin.encode()
    except DecodeError as error:
        str(error).encode()


@given(data=st.binary(max_size=600), pack=st.sampled_from(PACKED))
def test_any_bytes(data: bytes, pack: Callable[[bytes], bytes]) -> None:
    attempt(data)
    attempt(pack(data))


GOOD = tar({"nodes/" + "n" * 120 + "/x": b"x" * 600, "cluster/y.json": b"{}"})


@given(data=st.data(), pack=st.sampled_from(PACKED))
def test_damaged_archives(data: st.DataObject, pack: Callable[[bytes], bytes]) -> None:
    raw = pack(GOOD)
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 600)))
    attempt(raw[:start] + data.draw(st.binary(max_size=16)) + raw[end:])


@given(st.binary(min_size=12, max_size=12), st.sampled_from(b"0125xgLKSX7V"))
def test_headers_with_a_right_checksum(size: bytes, kind: int) -> None:
    """The checksum keeps random bytes from getting far, so it is made to fit here."""
    header = bytearray(GOOD[:512])
    header[124:136], header[156] = size, kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    attempt(bytes(header) + GOOD[512:])


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["bundle.tgz", "bundle.tar.gz", "folder"])
def test_what_is_saved_is_read_again(tmp_path: Path, name: str) -> None:
    taken = Snapshot(
        (
            Dump("/tmp/x/iptables-save.txt", b"rules", "a"),  # noqa: S108 -- an origin, nothing is there
            Dump("<stdin>", b"more", "a"),
            Dump("other/iptables-save.txt", b"others", "a"),
            Dump("cluster/pods.json", b"{}", None),
        ),
        (Missing("routes of b", "the way to pods on b"),),
    )
    path = tmp_path / name
    snapshot.save(taken, str(path))
    again = snapshot.read([str(path)])
    assert sorted(told(again), key=lambda item: item[2]) == [
        ("nodes/a/stdin", "a", b"more"),
        ("nodes/a/2-iptables-save.txt", "a", b"others"),
        ("nodes/a/iptables-save.txt", "a", b"rules"),
        ("cluster/pods.json", None, b"{}"),
    ]
    assert again.missing == taken.missing
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_same_snapshot_gives_the_same_bundle(tmp_path: Path) -> None:
    taken = Snapshot((Dump("x", b"x", "a"),))
    for name in ("1.tgz", "2.tgz", "2.tgz"):
        snapshot.save(taken, str(tmp_path / name))
    assert (tmp_path / "1.tgz").read_bytes() == (tmp_path / "2.tgz").read_bytes()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    taken = Snapshot((Dump("x", b"x", "a"),))
    with pytest.raises(UsageError, match="is there already"):
        snapshot.save(taken, str(tmp_path))
    with pytest.raises(UsageError, match="cannot write"):
        snapshot.save(taken, str(tmp_path / "no" / "x.tgz"))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_index(tmp_path: Path) -> None:
    path = folder(tmp_path, {"nodes/a/x": b"x", "snapshot.json": b"{"})
    assert refused(str(path), "is not JSON").origin == "snapshot.json"
    (path / "snapshot.json").write_text(json.dumps({"missing": [{"what": 1}, 2, {"what": "y"}]}))
    assert snapshot.read([str(path)]).missing == (Missing("y", ""),)


def test_recorded_cases_in_every_form(corpus: Path, tmp_path: Path) -> None:
    case = next(path for path in sorted(corpus.iterdir()) if (path / "nodes").is_dir())
    plain = snapshot.read([str(case)])
    assert {dump.origin.split("/")[0] for dump in plain.dumps} == {"cluster", "nodes"}
    assert not [dump for dump in plain.dumps if dump.origin.endswith("iptables-save-counters.txt")]
    with tarfile.open(tmp_path / "case.tgz", "w:gz") as archive:
        archive.add(case, arcname=case.name)
    assert told(snapshot.read([str(tmp_path / "case.tgz")])) == told(plain)
    with pytest.raises(DecodeError, match="snapshots"):
        snapshot.read([str(corpus)])


def test_what_many_bundles_begin_with_is_packed_once() -> None:
    common = (Dump("cluster/services.json", b"{}" * 5000), Dump("cluster/nodes.json", b"[]"))
    begun = snapshot.beginning(common)
    own = Snapshot((Dump("cluster/pods.json", b"{1}"),), (Missing("sysctls", "settings"),))
    for rest, more in ((own, {"cluster/pods.json": b"{1}"}), (Snapshot(()), {})):
        found = snapshot.read(["-"], stdin=io.BytesIO(begun + snapshot.packed(rest)))
        texts = {dump.origin: bytes(dump.data) for dump in found.dumps}
        assert texts == {**{dump.origin: bytes(dump.data) for dump in common}, **more}
        assert found.missing == rest.missing
