"""The control sockets: who may what, and what hostile and slow clients get."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from ids_appliance.errors import AlreadyRunning, ControlError
from ids_appliance.gateway import lines, sockets
from ids_appliance.gateway.client import Client, ask
from ids_appliance.gateway.control import Control
from ids_appliance.gateway.messages import (
    MAX_REQUEST_BYTES,
    AskDecisions,
    AskEvents,
    AskStatus,
    AskWhy,
    Panic,
    Pause,
    decode_request,
)
from tests.gateway.running import (
    DECISION,
    STATUS,
    WHY,
    FakeActions,
    as_user,
    reachable,
    running,
)

STATUS_LINE = b'{"v":1,"do":"status"}\n'
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def gateway(tmp_path):
    with running(tmp_path / "run") as gateway:
        yield gateway


class Raw:
    """A client that may send anything."""

    def __init__(self, run_dir, name=sockets.READ_SOCKET):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(run_dir / name))  # waits for a place in a full backlog
        self.socket.settimeout(60)
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # it has hung up already: what it said can still be read

    def line(self):
        """The next line, None where the server has hung up."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def asked(self, data):
        self.send(data)
        return self.line()


@pytest.fixture
def open_dir(tmp_path_factory):
    return reachable(tmp_path_factory.mktemp("open")) / "run"


# What everybody gets.


def test_questions_are_answered_as_the_gateway_answers_them(gateway):
    assert ask(gateway.run_dir, AskStatus()) == STATUS
    assert ask(gateway.run_dir, AskWhy(text="192.0.2.66")) == WHY
    assert ask(gateway.run_dir, AskDecisions(n=5)) == [DECISION]
    assert gateway.actions.calls[-1] == ("decisions", 5)
    assert gateway.orders == []


def test_one_connection_may_ask_many_things_even_before_it_was_answered(gateway):
    with Raw(gateway.run_dir) as client:
        client.send(STATUS_LINE * 20)
        answers = [client.line() for _ in range(20)]
    assert all(a["ok"] and a["answer"]["pid"] == STATUS.pid for a in answers)


def test_what_the_gateway_refuses_is_one_line(gateway):
    with pytest.raises(ControlError, match=r"^nothing is known of 192\.0\.2\.200$"):
        ask(gateway.run_dir, AskWhy(text="192.0.2.200"))


def test_a_defect_in_an_answer_ends_neither_loop_nor_connection(gateway, caplog):
    with pytest.raises(ControlError, match="internal error"):
        ask(gateway.run_dir, AskWhy(text="defect"))
    assert "a defect" in caplog.text
    assert ask(gateway.run_dir, AskStatus()) == STATUS
    assert gateway.control.counters()["control_faults"] == 1


def test_answers_come_within_a_few_turns_of_a_busy_loop(tmp_path):
    control = Control(tmp_path, FakeActions(), on_write=lambda order: None)
    control.start()
    stop = threading.Event()
    turns = 0

    def busy():
        nonlocal turns
        while not stop.is_set():
            turns += 1
            until = time.perf_counter() + 0.004
            while time.perf_counter() < until:
                sum(range(200))
            control.serve_pending()

    loop = threading.Thread(target=busy)
    loop.start()
    took = []
    try:
        with Client(tmp_path) as client:
            for _ in range(40):
                start = turns
                client.ask(AskStatus())
                took.append(turns - start)
    finally:
        stop.set()
        loop.join()
        control.close()
    # A turn takes 4 ms: on a machine of its own, 50 ms.
    assert sorted(took)[len(took) // 2] <= 12


# Malformed.


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b"[" * 4000,
        b'{"v":1,"do":"status","x":' + b"[" * 2000 + b"}",
        b"\x00\xff\xfe" * 100,
        bytes(range(11, 256)) * 8,
        b'{"v":1}',
        b'{"v":1,"do":"shell"}',
        b'{"v":"1","do":"status"}',
        b'{"v":1,"do":"status","extra":1}',
        b'{"v":1,"do":"why"}',
        b'{"v":1,"do":"why","text":7}',
        b'{"v":1,"do":"why","text":"\\ud800"}',
        b'{"v":1,"do":"why","text":"' + b"a" * 201 + b'"}',
        b'{"v":1,"do":"windows","n":0}',
        b'{"v":1,"do":"windows","n":1e99}',
        b'{"v":1,"do":"decisions","n":2001}',
        b'{"v":1,"do":"quarantine","text":"192.0.2.7","for_s":-1}',
        b'{"v":1,"do":"quarantine","text":"192.0.2.7","for_s":1e300}',
        b'{"v":1,"do":"mode","name":"none"}',
        b'{"v":1,"do":"enforce","on":"yes"}',
    ],
)
def test_what_is_no_request_is_answered_by_one_line(gateway, line):
    with Raw(gateway.run_dir, sockets.WRITE_SOCKET) as client:
        answer = client.asked(line + b"\n")
        assert answer["ok"] is False and answer["kind"] == "request", answer
        assert "\n" not in answer["error"] and len(answer["error"]) < 600
        assert client.line() is None
    assert ask(gateway.run_dir, AskStatus()) == STATUS
    assert gateway.actions.calls == [("status",)]


@pytest.mark.parametrize("version", [0, 2, -1, 10**40])
def test_another_version_is_named(gateway, version):
    with Raw(gateway.run_dir) as client:
        answer = client.asked(b'{"v":%d,"do":"status","new":{"field":1}}\n' % version)
    assert answer["kind"] == "version" and "releases" in answer["error"]


def test_ten_megabytes_without_an_end_are_not_kept(gateway):
    with Raw(gateway.run_dir) as client:
        answer = client.asked(b"a" * 10_000_000)
        assert answer["kind"] == "request" and str(MAX_REQUEST_BYTES) in answer["error"]
        assert client.line() is None
    assert gateway.control.counters()["control_malformed"] == 1


def test_a_line_of_the_greatest_length_is_still_read(gateway):
    line = STATUS_LINE.rstrip()[:-1].ljust(MAX_REQUEST_BYTES - 1) + b"}\n"
    with Raw(gateway.run_dir) as client:
        assert client.asked(line)["ok"]


def test_half_a_line_is_given_up_after_its_time(tmp_path):
    with running(tmp_path, bounds={"request_s": 0.3}) as gateway:
        with Raw(tmp_path) as half, Raw(tmp_path) as idle:
            half.send(b'{"v":1,')
            assert "no whole line" in half.line()["error"]
            assert half.line() is None
            assert idle.line() is None
        assert ask(tmp_path, AskStatus()) == STATUS
        assert gateway.control.counters()["control_connections"] == 3


def test_bytes_one_by_one_do_not_extend_the_time(tmp_path):
    with running(tmp_path, bounds={"request_s": 0.4}), Raw(tmp_path) as client:
        start = time.monotonic()
        for byte in STATUS_LINE[:-1] * 200:
            try:
                client.socket.send(bytes([byte]))
            except OSError:
                break
            threading.Event().wait(0.02)
        assert time.monotonic() - start < 30  # of the 80 s that all of them take


# Too many, too slow.


def test_a_thousand_connections_cost_themselves(open_dir):
    bounds = {"readers": 20, "readers_per_user": 10, "writers": 4}
    with running(open_dir, bounds=bounds) as gateway, ExitStack() as stack:
        clients = [stack.enter_context(Raw(open_dir)) for _ in range(1000)]
        answers = [client.line() for client in clients[10:]]
        assert {a["kind"] for a in answers} == {"busy"}
        assert "too many connections of user" in answers[0]["error"]
        assert clients[0].asked(STATUS_LINE)["ok"]
        # Orders have a door of their own.
        assert ask(open_dir, Pause(for_s=60.0)).changed == 1
        clients[1].socket.close()
        counters = gateway.control.counters()
        assert counters["control_refused"] == 990
    assert threading.active_count() < 20


def test_who_does_not_read_loses_his_connection_only(tmp_path):
    with running(tmp_path, bounds={"take_s": 0.3}) as gateway:
        gateway.actions.many = 2000
        with Raw(tmp_path) as slow:
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.send(b'{"v":1,"do":"decisions","n":2000}\n' * 10)
            assert len(ask(tmp_path, AskDecisions(n=2000))) == 2000
            deadline = time.monotonic() + 60
            while not gateway.control.counters()["control_dropped"]:
                assert time.monotonic() < deadline
                assert ask(tmp_path, AskStatus()) == STATUS
    # One answer at a time: the other nine were never made.
    assert gateway.actions.calls.count(("decisions", 2000)) == 2


def test_what_slow_readers_leave_is_bounded_for_all_together(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "OUTPUT_BYTES", 1_000_000)
    with running(tmp_path) as gateway, ExitStack() as stack:
        gateway.actions.many = 2000  # some 800 kB, of which a socket's buffer takes 200
        slow = [stack.enter_context(Raw(tmp_path)) for _ in range(2)]
        for client in slow:
            client.send(b'{"v":1,"do":"decisions","n":2000}\n')
            while client.socket.recv(1, socket.MSG_PEEK) != b"{":
                pass
        with pytest.raises(ControlError, match="slow readers"):
            ask(tmp_path, AskDecisions(n=2000))
        assert ask(tmp_path, AskStatus()) == STATUS
        assert len(slow[0].line()["answer"]) == 2000  # they get what is theirs


@needs_root
def test_a_user_may_ask_fifty_times_a_second_and_others_do_not_wait(open_dir):
    code = """if 1:
        import socket, sys, time
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rb")
        s.sendall(b'{"v":1,"do":"status"}\\n' * 70)
        start = time.monotonic()
        assert all(b'"ok":true' in f.readline() for _ in range(70))
        print(time.monotonic() - start)
    """
    with running(open_dir) as gateway:
        os.chmod(open_dir / sockets.READ_SOCKET, 0o666)
        done = as_user(65534, code, open_dir / sockets.READ_SOCKET)
        assert done.returncode == 0, done.stderr
        assert 0.2 < float(done.stdout)
        assert ask(gateway.run_dir, AskStatus()) == STATUS


def once_it_has_time(run_dir):
    """The answer of a loop that may still be busy for longer than its short bound."""
    while True:
        try:
            return ask(run_dir, AskStatus())
        except ControlError as error:
            assert error.kind == "busy", error


def test_a_stuck_gateway_is_said_to_be_busy_and_does_nothing_later(tmp_path):
    with running(tmp_path, bounds={"answer_s": 0.2}) as gateway:
        gateway.stick()
        with pytest.raises(ControlError, match="nothing was done") as caught:
            ask(tmp_path, Pause(for_s=60.0))
        assert caught.value.kind == "busy"
        gateway.served.set()
        assert once_it_has_time(tmp_path) == STATUS
        assert ("pause", 60.0) not in gateway.actions.calls
        assert gateway.orders == []


def test_a_stuck_gateway_panics_as_soon_as_it_can(tmp_path):
    with running(tmp_path, bounds={"answer_s": 0.2}) as gateway:
        gateway.stick()
        with pytest.raises(ControlError, match="as soon as it can"):
            ask(tmp_path, Panic())
        assert gateway.actions.calls == []
        gateway.served.set()
        assert once_it_has_time(tmp_path) == STATUS
        assert gateway.actions.calls == [("panic",), ("status",)]
        assert [order.action for order in gateway.orders] == ["panic"]


def test_who_hangs_up_while_waiting_is_no_trouble(tmp_path):
    with running(tmp_path, bounds={"answer_s": 0.2}) as gateway:
        for _ in range(30):
            with Raw(tmp_path, sockets.WRITE_SOCKET) as client:
                client.send(STATUS_LINE)
        assert once_it_has_time(tmp_path) == STATUS
        assert gateway.control.counters()["control_faults"] == 0


# Events.


def test_events_are_kept_and_followed(gateway):
    for number in range(30):
        gateway.control.publish({"event_type": "trigger", "number": number})
    assert [e["number"] for e in ask(gateway.run_dir, AskEvents(n=3))] == [27, 28, 29]
    with Client(gateway.run_dir) as client:
        following = client.follow(2)
        assert [next(following)["number"] for _ in range(2)] == [28, 29]
        gateway.control.publish({"event_type": "trigger", "number": 30})
        assert next(following) == {"event_type": "trigger", "number": 30}
        gateway.close()
        assert list(following) == []


def test_a_follower_that_does_not_read_is_told_what_it_missed(gateway):
    with Client(gateway.run_dir) as client:
        gateway.control.publish({"n": -1})
        following = client.follow(1)
        assert next(following) == {"n": -1}
        sent = 0
        while not gateway.control.counters()["control_events_lost"]:
            gateway.control.publish({"n": sent, "filler": "x" * 1000})
            sent += 1
            assert sent < 100_000
        at, losses = 0, 0
        while at < sent:
            event = next(following)
            if isinstance(event, int):
                at, losses = at + event, losses + 1
            else:
                assert event["n"] == at
                at += 1
        assert at == sent and losses


def test_events_that_cannot_be_told_are_counted(gateway):
    gateway.control.publish({"bad": object()})
    gateway.control.publish({"bad": "\ud800"})
    gateway.control.publish({"long": "x" * 20_000})
    gateway.control.publish({"good": 1})
    assert ask(gateway.run_dir, AskEvents()) == [{"good": 1}]
    assert gateway.control.counters()["control_events_lost"] == 3


def test_a_follower_that_talks_is_let_go(gateway):
    with Raw(gateway.run_dir) as client:
        assert client.asked(b'{"v":1,"do":"events","follow":true}\n')["answer"] == []
        client.send(STATUS_LINE)
        assert client.line() is None


# Who may what.


def test_modes_of_the_files(gateway):
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in sorted(gateway.run_dir.iterdir())
    }
    assert modes == {"lock": 0o600, "read.sock": 0o660, "token": 0o600, "write.sock": 0o600}


def test_orders_are_told_with_who_gave_them(gateway):
    ask(gateway.run_dir, Pause(for_s=600.0))
    (order,) = gateway.orders
    assert (order.action, order.details, order.outcome) == ("pause", {"for_s": 600.0}, "done")
    assert (order.peer.pid, order.peer.uid) == (os.getpid(), os.geteuid())
    assert not order.by_token


def test_an_order_that_fails_is_told_as_well(gateway):
    with Raw(gateway.run_dir, sockets.WRITE_SOCKET) as client:
        line = b'{"v":1,"do":"quarantine","text":"192.0.2.1","for_s":60}\n'
        assert client.asked(line)["kind"] == "failed"
    assert "protected" in gateway.orders[0].outcome


def test_orders_over_the_read_socket_need_the_token(gateway):
    token = (gateway.run_dir / "token").read_text()
    assert len(token) == 64
    order = {"v": 1, "do": "pause", "for_s": 60}
    for given in (None, "", token[:-1], token.upper() + "x", "é"):
        with Raw(gateway.run_dir) as client:
            wrong = order if given is None else order | {"token": given}
            assert client.asked(json.dumps(wrong).encode() + b"\n")["kind"] == "denied"
            assert client.line() is None
    assert gateway.actions.calls == []
    with Raw(gateway.run_dir) as client:
        assert client.asked(json.dumps(order | {"token": token}).encode() + b"\n")["ok"]
    assert gateway.actions.calls == [("pause", 60.0)]
    # Denied ones once a second at most; the token itself is never told.
    assert [o.outcome for o in gateway.orders] == ["denied", "done"]
    assert gateway.orders[1].by_token and token not in repr(gateway.orders)
    assert gateway.control.counters()["control_denied"] == 5


def test_a_wrong_token_is_refused_even_at_the_write_socket(gateway):
    with Raw(gateway.run_dir, sockets.WRITE_SOCKET) as client:
        line = b'{"v":1,"do":"reload","token":"guess"}\n'
        assert client.asked(line)["kind"] == "denied"


def test_each_start_has_a_token_of_its_own(tmp_path):
    tokens = set()
    for _ in range(2):
        with running(tmp_path):
            tokens.add((tmp_path / "token").read_text())
        assert not (tmp_path / "token").exists()
    assert len(tokens) == 2


@needs_root
def test_an_ordinary_user_can_do_nothing_and_the_group_can_ask(open_dir):
    group, gid = "games", 60
    code = """if 1:
        import socket, sys
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(sys.argv[1])
        except PermissionError:
            print("forbidden"); sys.exit()
        s.sendall(sys.argv[2].encode() + b"\\n")
        print(s.makefile().readline())
    """
    status, pause = STATUS_LINE.decode().strip(), '{"v":1,"do":"pause","for_s":60}'
    with running(open_dir, group=group) as gateway:
        read, write = open_dir / sockets.READ_SOCKET, open_dir / sockets.WRITE_SOCKET
        assert as_user(65534, code, read, status).stdout == "forbidden\n"
        assert as_user(65534, code, write, status).stdout == "forbidden\n"
        assert as_user(65534, "open(__import__('sys').argv[1])", open_dir / "token").returncode == 1
        assert '"ok":true' in as_user(65534, code, read, status, gid=gid).stdout
        assert as_user(65534, code, write, status, gid=gid).stdout == "forbidden\n"
        assert '"denied"' in as_user(65534, code, read, pause, gid=gid).stdout
        # Even where the file's mode lets them in by mistake.
        os.chmod(write, 0o666)
        assert '"denied"' in as_user(65534, code, write, pause).stdout
        assert gateway.actions.calls == [("status",)]
        assert gateway.orders[0].outcome == "denied" and gateway.orders[0].peer.uid == 65534


def test_an_unknown_group_is_named(tmp_path):
    with pytest.raises(ControlError, match="group 'no-such-group' does not exist"):
        running(tmp_path, group="no-such-group").__enter__()


@needs_root
def test_a_group_that_this_user_may_not_give_it_to_is_named(open_dir):
    open_dir.mkdir()
    os.chown(open_dir, 65534, 65534)
    code = """if 1:
        import sys
        from pathlib import Path
        from ids_appliance.errors import ControlError
        from ids_appliance.gateway.sockets import Endpoints
        try:
            Endpoints(Path(sys.argv[1]), "games")
        except ControlError as error:
            print(error)
    """
    said = as_user(65534, code, open_dir)
    assert "cannot be given to group games" in said.stdout, said.stderr
    assert sorted(path.name for path in open_dir.iterdir()) == ["lock"]


# One gateway a directory.


def test_a_second_gateway_is_refused_and_the_first_goes_on(gateway):
    with pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}\)"):
        running(gateway.run_dir).__enter__()
    assert ask(gateway.run_dir, AskStatus()) == STATUS


@needs_root
def test_nobody_else_can_hold_the_lock_and_keep_the_next_gateway_out(open_dir):
    lock = open_dir / sockets.LOCK
    open_dir.mkdir(0o755)
    lock.touch(0o644)  # by an earlier release
    with running(open_dir):
        pass
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    assert "PermissionError" in as_user(65534, code, lock).stderr
    with running(open_dir):
        assert ask(open_dir, AskStatus()) == STATUS


def test_a_second_gateway_is_refused_even_without_the_lock(gateway):
    (gateway.run_dir / "lock").unlink()
    with pytest.raises(AlreadyRunning, match="already listens"):
        running(gateway.run_dir).__enter__()
    assert ask(gateway.run_dir, AskStatus()) == STATUS
    assert (gateway.run_dir / "token").exists()


def test_sockets_of_a_dead_gateway_are_replaced(tmp_path):
    code = """if 1:
        import os, sys
        from pathlib import Path
        from ids_appliance.gateway.sockets import Endpoints
        Endpoints(Path(sys.argv[1]))
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", code, tmp_path], timeout=300, check=False)
    assert (tmp_path / "write.sock").is_socket()
    with running(tmp_path):
        assert ask(tmp_path, AskStatus()) == STATUS


def test_what_is_no_socket_is_left_alone(tmp_path):
    (tmp_path / "write.sock").write_text("mine")
    with pytest.raises(ControlError, match="in the way"):
        running(tmp_path).__enter__()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "write.sock"]
    assert (tmp_path / "write.sock").read_text() == "mine"


def test_a_directory_that_others_may_write_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(ControlError, match="can be written by others"):
        running(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 100, "file/run"])
def test_a_directory_that_cannot_be_is_one_line(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError) as caught:
        running(tmp_path / name).__enter__()
    assert "\n" not in str(caught.value)


def test_closing_twice_and_without_a_start(tmp_path):
    control = Control(tmp_path, FakeActions(), on_write=lambda order: None)
    control.close()
    control.close()
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]
    control.publish({"late": 1})  # somebody has not noticed yet


def test_the_panic_flag_outlives_a_gateway(tmp_path):
    run_dir = tmp_path / "run"
    assert not sockets.panicked(run_dir)
    sockets.leave_panic_flag(run_dir)
    with running(run_dir):
        assert sockets.panicked(run_dir)
    assert sockets.panicked(run_dir)
    sockets.forget_panic(run_dir)
    sockets.forget_panic(run_dir)
    assert not sockets.panicked(run_dir)


def test_every_request_is_told_apart_by_its_name():
    assert isinstance(decode_request(STATUS_LINE), AskStatus)
    assert decode_request(b'{"v":1,"do":"pause","for_s":5}') == Pause(for_s=5.0)
