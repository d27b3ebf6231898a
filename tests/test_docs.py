"""The documentation says what the program is: generated pages are up to date, links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from netk8s import decode, snapshot

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            page
            for name in ("docs", "bench", "examples", "probes", "daemonset")
            for page in (ROOT / name).rglob("*.md")
        ),
    ]
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.M):
        plain = re.sub(r"<[^>]*>|[^\w\s-]", "", heading.lower())
        named.add(re.sub(r"\s", "-", plain.strip()))
    return named


@pytest.fixture(scope="module")
def generate_findings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_findings", ROOT / "docs" / "generate_findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_findings_page_is_up_to_date(generate_findings: ModuleType) -> None:
    assert generate_findings.PAGE.read_text(encoding="utf-8") == generate_findings.page(), "`make docs` writes it again"


def test_every_finding_has_a_manual_with_all_its_headings(generate_findings: ModuleType) -> None:
    found = list(generate_findings.modules())
    assert found
    for code, module in found:
        title, rest = generate_findings.manual(module)
        assert title, code
        assert re.findall(r"^### (.*)$", rest, flags=re.M) == list(generate_findings.HEADINGS), code


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def test_the_pages_name_only_findings_that_exist(generate_findings: ModuleType) -> None:
    known = {code for code, _ in generate_findings.modules()}
    named = {code for page in PAGES for code in re.findall(r"\bNK\d{3}\b", page.read_text(encoding="utf-8"))}
    assert named <= known


@pytest.mark.lab
@pytest.mark.parametrize("first", ["netk8s collect", "out=dump"], ids=["with netk8s", "with the tools alone"])
def test_the_commands_for_a_node_make_a_dump_that_is_understood(first: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "collect-dumps.md").read_text(encoding="utf-8")
    (commands,) = (block for block in re.findall(r"```sh\n(.*?)```", page, flags=re.S) if block.startswith(first))
    addressed = (
        "ip link set lo up; ip link add eth0 type veth peer name eth1; ip link set eth1 up; ip link set eth0 up\n"
        "ip addr add 192.0.2.1/24 dev eth0\n"
    )
    served = f"{sys.executable} -m http.server --bind 192.0.2.1 8080 >http 2>&1 & trap 'kill $!' EXIT; sleep 1\n"
    script = addressed + served + "iptables -A INPUT -j ACCEPT\n" + commands + "\ntrue\n"
    # The page's reader has netk8s on the path; here it is beside the tests' interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(
        ["unshare", "--net", "bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    (made,) = (item for item in tmp_path.iterdir() if item.name != "http")
    world = decode.decode(snapshot.read([str(made)]))
    (node,) = world.nodes.values()
    assert node.covered >= {"rules4", "link", "addr", "route4", "rule4", "sysctl", "socket"}
    assert "192.0.2.1" in {str(address.ip) for address in node.addresses}
    assert [(str(socket.ip), socket.port) for socket in node.sockets] == [("192.0.2.1", 8080)]
    assert node.sysctls["net.ipv4.ip_forward"].value in {"0", "1"}
    assert not world.notes
