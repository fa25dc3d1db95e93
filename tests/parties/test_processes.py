"""Parties as processes: they answer, they are named when they die, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parties.processes import Parties, PartyError
from tests.parties.wire.endpoints import eventually

ROOT = Path(__file__).parent.parent.parent
MODULE = "tests.parties.tiny_party"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    with Parties(MODULE, tmp_path / "logs") as group:
        yield group


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] in "ZX")


def test_each_party_answers_for_itself(parties: Parties) -> None:
    for name in ("a", "b"):
        parties.start("plain", name)
    pids = parties.ask({"a": ("pid", {}), "b": ("pid", {})})
    assert len({os.getpid(), pids["a"], pids["b"]}) == 3
    value = {"text": "ä\n", "list": [1, 2.5, None]}
    assert parties.ask({"b": ("echo", {"value": value})}) == {"b": value}
    assert parties.ask({"a": ("echo", {"value": "x" * 300_000})})["a"] == "x" * 300_000
    assert parties.ask({}) == {}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_a_party_keeps_to_its_cores(parties: Parties) -> None:
    cores = os.sched_getaffinity(0)
    parties.start("plain", "a", {max(cores)})
    parties.start("plain", "b")
    pids = parties.ask({"a": ("pid", {}), "b": ("pid", {})})
    assert os.sched_getaffinity(pids["a"]) == {max(cores)}
    assert os.sched_getaffinity(pids["b"]) == cores


def test_parties_work_at_the_same_time_and_report_progress(parties: Parties) -> None:
    for name in ("a", "b", "c"):
        parties.start("plain", name)
    parties.ask(dict.fromkeys("abc", ("pid", {})))
    told: list[tuple[str, float]] = []
    start = time.monotonic()
    results = parties.ask(
        dict.fromkeys("abc", ("work", {"seconds": 0.6})), report=lambda name, fraction: told.append((name, fraction))
    )
    assert time.monotonic() - start < 1.5, "one after another they would need 1.8 s"
    assert results == dict.fromkeys("abc", "done")
    assert [fraction for name, fraction in told if name == "b"] == [0, 0.25, 0.5, 0.75]


def test_what_a_party_prints_goes_to_its_log(parties: Parties, tmp_path: Path) -> None:
    parties.start("plain", "a")
    assert parties.ask({"a": ("chatter", {})}) == {"a": "said"}
    parties.stop()
    assert "and so is this" in (tmp_path / "logs" / "a.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_party_is_named_with_its_signal_and_log(parties: Parties, number: signal.Signals) -> None:
    for name in ("healthy", "victim"):
        parties.start("plain", name)
    with pytest.raises(PartyError) as caught:
        parties.ask({"healthy": ("work", {"seconds": 30}), "victim": ("die", {"number": int(number)})}, timeout_s=20)
    text = str(caught.value)
    assert text.startswith(f"victim was killed by {number.name}; its log ends:")
    assert text.endswith("last words")
    assert "line 29" in text
    assert "line 5\n" not in text, "only the end of the log"


def test_a_party_that_is_killed_from_outside_while_others_are_asked(parties: Parties) -> None:
    for name in ("a", "b"):
        parties.start("plain", name)
    pid = parties.ask({"b": ("pid", {})})["b"]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PartyError, match="b was killed by SIGKILL"):
        parties.ask({"a": ("work", {"seconds": 30})}, timeout_s=20)


def test_a_party_that_leaves_is_named_with_its_status(parties: Parties) -> None:
    parties.start("plain", "a")
    with pytest.raises(PartyError, match=r"a ended early with exit status 3; its log ends:\n    \(its log is empty\)"):
        parties.ask({"a": ("leave", {"status": 3})})


def test_a_party_that_dies_amid_an_answer_is_named(parties: Parties) -> None:
    parties.start("half", "a")
    with pytest.raises(PartyError, match="a was killed by SIGKILL"):
        parties.ask({"a": ("pid", {})}, timeout_s=20)


def test_a_module_that_cannot_start_quotes_its_log(tmp_path: Path) -> None:
    with Parties("tests.parties.no_such_party", tmp_path) as parties:
        parties.start("plain", "a")
        with pytest.raises(PartyError, match=r"(?s)a ended early with exit status 1.*No module named"):
            parties.ask({"a": ("pid", {})}, timeout_s=20)


def test_an_expected_error_is_its_message_and_no_traceback(parties: Parties, tmp_path: Path) -> None:
    parties.start("plain", "a")
    with pytest.raises(PartyError, match=r"^a: no such picture; take another$"):
        parties.ask({"a": ("fail", {"text": "no such picture; take another", "expected": True})})
    assert "Traceback" not in (tmp_path / "logs" / "a.log").read_text()


def test_an_unexpected_error_leaves_its_traceback_in_the_log(parties: Parties, tmp_path: Path) -> None:
    parties.start("plain", "a")
    with pytest.raises(PartyError, match=r"^a: RuntimeError: out of luck$"):
        parties.ask({"a": ("fail", {"text": "out of luck", "expected": False})})
    assert "in fail" in (tmp_path / "logs" / "a.log").read_text()


@pytest.mark.parametrize(
    ("command", "complaint"),
    [(("no_such_method", {}), "KeyError: 'no_such_method'"), (("doze", {"surplus": 1}), r"TypeError.*surplus")],
)
def test_a_wrong_command_is_an_error(parties: Parties, command: tuple[str, dict[str, int]], complaint: str) -> None:
    parties.start("plain", "a")
    with pytest.raises(PartyError, match=complaint):
        parties.ask({"a": command})


def test_an_error_ends_the_group_so_that_no_late_answer_is_mistaken_for_another(parties: Parties) -> None:
    for name in ("failing", "late"):
        parties.start("plain", name)
    pids = parties.ask(dict.fromkeys(("failing", "late"), ("pid", {})))
    with pytest.raises(PartyError, match="out of luck"):
        parties.ask({"failing": ("fail", {"text": "out of luck", "expected": True}), "late": ("work", {"seconds": 60})})
    assert not any(map(alive, pids.values()))
    with pytest.raises(PartyError, match="late does not run"):
        parties.ask({"late": ("echo", {"value": 1})})


def test_silence_is_not_waited_for_without_end(parties: Parties) -> None:
    for name in ("quick", "sleeper"):
        parties.start("plain", name)
    parties.ask(dict.fromkeys(("quick", "sleeper"), ("pid", {})))
    with pytest.raises(PartyError, match=r"sleeper said nothing for 0\.3 s; see the logs in .*logs"):
        parties.ask({"quick": ("pid", {}), "sleeper": ("work", {"seconds": 60})}, timeout_s=0.3)


def test_stopping_leaves_no_process_whatever_it_does(tmp_path: Path) -> None:
    parties = Parties(MODULE, tmp_path)
    for role in ("plain", "stubborn", "slow"):
        parties.start(role, role)
    pids = parties.ask(dict.fromkeys(("plain", "stubborn", "slow"), ("pid", {})))
    assert all(map(alive, pids.values()))
    parties._parties["plain"].send({"method": "work", "arguments": {"seconds": 60}})
    start = time.monotonic()
    parties.stop(grace_s=0.3)
    left = [pid for pid in pids.values() if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
    assert time.monotonic() - start < 4
    parties.stop()  # twice is harmless


def test_an_idle_party_stops_without_being_terminated(parties: Parties) -> None:
    parties.start("plain", "a")
    parties.ask({"a": ("pid", {})})
    process = parties._parties["a"].process
    start = time.monotonic()
    parties.stop(grace_s=10)
    assert time.monotonic() - start < 3
    assert process.returncode == 0


def test_an_error_inside_the_block_stops_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Parties(MODULE, tmp_path) as parties:
        parties.start("plain", "a")
        pid = parties.ask({"a": ("pid", {})})["a"]
        raise KeyboardInterrupt
    assert not alive(pid)


PARENT = """
import sys
from pathlib import Path
from parties.processes import Parties
parties = Parties("tests.parties.tiny_party", Path(sys.argv[1]))
roles = sys.argv[2].split(",")
for role in roles:
    parties.start(role, role)
if "slow" not in roles:
    parties.ask({role: ("pid", {}) for role in roles})
print(*(party.process.pid for party in parties._parties.values()), flush=True)
parties.ask({role: ("doze", {"seconds": 600}) for role in roles[1:]})
"""


@pytest.mark.parametrize("roles", ["idle,busy", "plain,slow"], ids=["at work", "starting"])
def test_children_of_a_killed_parent_are_gone(tmp_path: Path, roles: str) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), roles]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = list(map(int, parent.stdout.readline().split()))
        assert len(pids) == 2
        time.sleep(0.3)  # the command is on its way
        assert all(map(alive, pids))
        parent.kill()
    try:
        assert eventually(lambda: not any(map(alive, pids)), within_s=5)
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)
