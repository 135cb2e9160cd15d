"""The client: what a person reads when there is no answer, or a strange one."""

import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from ids_appliance.errors import ControlError, NotRunning, PermissionMissing
from ids_appliance.gateway.client import Client, ask
from ids_appliance.gateway.messages import (
    MAX_ANSWER_BYTES,
    AskStatus,
    AskWhy,
    Pause,
    encode_answer,
    encode_error,
)
from tests.gateway.running import STATUS, as_user, reachable, running


@contextmanager
def answering(run_dir, answer, name="read.sock"):
    """A server that reads one line of one client, answers with these bytes and hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(run_dir / name))
        listener.listen(1)

        def serve():
            client, _ = listener.accept()
            with client, client.makefile("rb") as file:
                file.readline()
                try:
                    client.sendall(answer)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_nobody_there(tmp_path):
    with pytest.raises(NotRunning, match="systemctl status ids-appliance"):
        ask(tmp_path, AskStatus())


def test_a_dead_gateways_socket(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "read.sock"))
    with pytest.raises(NotRunning, match="has died"):
        ask(tmp_path, AskStatus())


@pytest.mark.parametrize("name", ["x" * 200, "file"])
def test_a_run_directory_that_cannot_be(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError):
        ask(tmp_path / name, AskStatus())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "hung up"),
        (b'{"v":1,"ok":true', "hung up"),
        (b"\n", "makes no sense"),
        (b"[]\n", "makes no sense"),
        (b"\xff\xfe\n", "makes no sense"),
        (b"{}\n", "protocol version 0"),
        (b'{"v":2,"ok":true,"answer":{}}\n', "protocol version 2"),
        (b'{"v":1,"ok":true}\n', "makes no sense"),
        (b'{"v":1,"ok":true,"answer":{"pid":1}}\n', "makes no sense"),
        (b'{"v":1,"ok":false}\n', "refuses"),
        (encode_error("failed", "nothing is known"), "nothing is known"),
        (encode_error("failed", "two\nlines \ud800"), r"^two lines \?$"),
        (b"a" * (MAX_ANSWER_BYTES + 100_000), "too long"),
    ],
)
def test_strange_answers_are_one_line(tmp_path, answer, says):
    with answering(tmp_path, answer), pytest.raises(ControlError, match=says) as caught:
        ask(tmp_path, AskStatus())
    assert "\n" not in str(caught.value)


def test_an_answer_with_more_than_we_know_is_understood(tmp_path):
    line = encode_answer(STATUS).replace(b'"pid"', b'"new":[{}],"pid"')
    with answering(tmp_path, line):
        assert ask(tmp_path, AskStatus()) == STATUS


def test_an_answer_that_json_cannot_say_is_an_error_line():
    assert b'"ok":false' in encode_answer({"text": "\ud800"})
    assert b"ask for fewer" in encode_answer("x" * (MAX_ANSWER_BYTES + 1))


def test_text_that_is_no_text_is_not_sent(tmp_path):
    with running(tmp_path), pytest.raises(ControlError, match="cannot be sent"):
        ask(tmp_path, AskWhy(text="\ud800"))


def test_a_silent_gateway_is_given_up_in_time(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "read.sock"))
        listener.listen(0)
        start = time.monotonic()
        with pytest.raises(ControlError, match=r"within 0\.3 s"):
            ask(tmp_path, AskStatus(), deadline_s=0.3)
        # Now the backlog (one) is full: connecting itself takes too long.
        with pytest.raises(ControlError, match=r"within 0\.3 s"):
            ask(tmp_path, AskStatus(), deadline_s=0.3)
        assert time.monotonic() - start < 60


def test_orders_go_to_their_own_socket(tmp_path):
    with running(tmp_path) as gateway:
        assert ask(tmp_path, Pause(for_s=5.0)).changed == 1
        with Client(tmp_path) as client, pytest.raises(PermissionMissing, match="sudo"):
            client.ask(Pause(for_s=5.0))
        assert gateway.actions.calls == [("pause", 5.0)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    ("request_", "group", "says"),
    [
        ("AskStatus()", "games", "root and group games"),
        ("AskStatus()", "", "set `group`"),
        ("Pause(for_s=5.0)", "games", "orders need root"),
    ],
)
def test_who_may_not_is_told_who_may(tmp_path_factory, request_, group, says):
    run_dir = reachable(tmp_path_factory.mktemp("run"))
    code = f"""if 1:
        import sys
        from pathlib import Path
        from ids_appliance.errors import PermissionMissing
        from ids_appliance.gateway.client import ask
        from ids_appliance.gateway.messages import AskStatus, Pause
        try:
            ask(Path(sys.argv[1]), {request_})
        except PermissionMissing as error:
            print(error)
    """
    with running(run_dir, group=group):
        done = as_user(65534, code, run_dir)
    assert done.returncode == 0 and says in done.stdout, done.stderr
