from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest

from netk8s.cli import run
from netk8s.cli.watch import LOOK, changed, fingerprint
from netk8s.render.document import json_schema
from netk8s.render.watched import Watched

CASE = "headline-nodeport-30000"


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus / CASE, tmp_path / "bundle"))


def off(copy: Path) -> None:
    """The node of two endpoints does not forward any more."""
    file = copy / "nodes/k8s-node1/sysctl.txt"
    file.write_text(
        file.read_text().replace(".forwarding = 1", ".forwarding = 0").replace("ip_forward = 1", "ip_forward = 0")
    )


def watching(out: io.StringIO, then: list[Callable[[], None]]) -> threading.Thread:
    """Does one thing after each line of output that is a document."""

    def follow() -> None:
        for number, act in enumerate(then, 1):
            while out.getvalue().count("\n") < number:
                time.sleep(0.05)
            act()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def test_what_is_new_after_a_change(copy: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    thread = watching(out, [lambda: off(copy)])
    argv = ["watch", str(copy), "--service", "nginx", "--settle", "0", "--once", "-o", "json"]
    status = run(argv, out, err, io.BytesIO())
    thread.join()
    first, second = map(json.loads, out.getvalue().splitlines())
    for document in (first, second):
        jsonschema.validate(document, json_schema(Watched), cls=jsonschema.Draft202012Validator)
    assert (first["first"], first["differences"], first["findings_gone"]) == (True, [], [])
    assert second["first"] is False
    assert {row["kind"] for row in second["differences"]} <= {"outcome", "endpoints", "odds", "source seen"}
    assert ("delivered", "dropped") in {(row["a"]["what"], row["b"]["what"]) for row in second["differences"]}
    assert any("does not forward" in finding["summary"] for finding in second["findings_new"])
    assert (status, err.getvalue()) == (1, "")


def test_what_cannot_be_read_for_a_while_is_told_and_tried_again(copy: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    rules = copy / "nodes/k8s-node1/iptables-save.txt"
    whole = rules.read_bytes()

    def break_and_mend() -> None:
        rules.write_bytes(whole[: len(whole) // 2])
        while "waiting for the next change" not in err.getvalue():
            time.sleep(0.05)
        rules.write_bytes(whole)
        off(copy)

    thread = watching(out, [break_and_mend])
    argv = ["watch", str(copy), "--service", "nginx", "--settle", "0", "--once", "-o", "json"]
    assert run(argv, out, err, io.BytesIO()) == 1
    thread.join()
    assert len(out.getvalue().splitlines()) == 2
    assert err.getvalue().count("waiting for the next change") == 1


def test_ctrl_c_ends_it_with_the_status_of_the_last_state(copy: Path, root: Path) -> None:
    argv = [sys.executable, "-c", "from netk8s.cli import main; main()", "watch", str(copy), "--service", "kubernetes"]
    env = os.environ | {"PYTHONPATH": str(root / "src")}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    assert "flows asked" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    checked = subprocess.run([*argv[:3], "check", *argv[4:], "-o", "json"], env=env, capture_output=True, check=False)
    assert (process.returncode, err) == (checked.returncode, "")


def test_statuses(netk8s: Callable, copy: Path, tmp_path: Path) -> None:
    for argv, status in ((("-",), 2), ((str(tmp_path / "absent"),), 3), ((str(copy), "--service", "ngnix"), 4)):
        ran = netk8s("watch", *argv)
        assert (ran.status, ran.out) == (status, ""), argv
        assert ran.err.startswith("netk8s: ")


# ---------------------------------------------------------------- when it is read again


def rounds(looks: list[str], settle: float) -> tuple[int, float]:
    """How often it is read, and how many seconds are slept, for these looks; the last of them stays."""
    left: Iterator[str] = iter(looks)
    slept = 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds

    number = 0
    # The end of the looks ends the generator, as an error of its own.
    with suppress(RuntimeError):
        for _ in changed(lambda: next(left), settle, sleep):
            number += 1
    return number, slept


@pytest.mark.parametrize(
    ("looks", "number"),
    [
        ("aaaa", 1),
        ("aabbbbb", 2),
        ("aabcdeeeeeee", 2),  # a folder that is being written is read once
        ("abbbbbccccc", 3),
        ("aabaaaaaaaa", 1),  # what was put back is no change
    ],
)
def test_a_change_is_read_when_it_has_come_to_rest(looks: str, number: int) -> None:
    assert rounds(list(looks), 2 * LOOK)[0] == number


def test_every_look_waits() -> None:
    assert rounds(list("aaaaa"), 1)[1] == 5 * LOOK


def test_a_fingerprint_sees_files_come_change_and_go(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    seen = {fingerprint([str(tmp_path)])}
    file = tmp_path / "nodes" / "x"
    file.write_text("a")
    seen.add(fingerprint([str(tmp_path)]))
    file.write_text("ab")
    seen.add(fingerprint([str(tmp_path)]))
    assert len(seen) == 3
    file.unlink()
    assert fingerprint([str(tmp_path)]) in seen
    assert fingerprint([str(file)]) == ((str(file), None),)
