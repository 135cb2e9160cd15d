"""Who may start a drill, and how often."""

import threading

import msgspec
import pytest

from ids_appliance.drill.messages import MAX_BYTES, Ask, Report, ask_drills
from ids_appliance.drill.serve import KEPT, PAUSE_S, Served
from ids_appliance.errors import DrillError
from ids_appliance.gateway.stories import Stories
from ids_appliance.telemetry.drills import is_drill, names_drill
from ids_appliance.types import Decision, Kind, Response, Subject

TOKEN = "7" * 64


class Playing:
    """A drill that plays until it is let go."""

    def __init__(self, kind):
        self.report = Report(kind=kind.name, began_ns=1)
        self.over = threading.Event()

    def run(self):
        assert self.over.wait(60)
        self.report.running = False


class Ground:
    def __init__(self, run_dir):
        self.now = 100.0
        self.made = []
        (run_dir / "token").write_text(TOKEN)
        self.served = Served(run_dir, self.make, clock=lambda: self.now)

    def make(self, kind):
        self.made.append(Playing(kind))
        return self.made[-1]

    def ask(self, **fields):
        return self.served.answer(msgspec.json.encode(Ask(**fields)))

    def start(self, kind="scan", token=TOKEN):
        return self.ask(do="start", kind=kind, token=token)

    def end(self):
        self.made[-1].over.set()
        self.served._thread.join()


@pytest.fixture
def ground(tmp_path):
    made = Ground(tmp_path)
    yield made
    for drill in made.made:
        drill.over.set()


@pytest.mark.parametrize("token", ["", "0" * 64, TOKEN[:-1], "\N{SNOWMAN}"])
def test_nobody_starts_one_without_the_token(ground, token):
    assert "needs the token" in ground.start(token=token).error
    assert ground.made == []


def test_no_token_where_no_gateway_runs(ground, tmp_path):
    (tmp_path / "token").unlink()
    assert "no gateway runs" in ground.start(token="").error


def test_a_token_that_is_not_written_yet_is_nobodys(ground, tmp_path):
    (tmp_path / "token").write_text("")
    assert "no gateway runs" in ground.start(token="").error
    assert ground.made == []


def test_one_at_a_time_and_seldom_enough(ground):
    assert ground.start("flood everything").error.startswith("there is no drill of that name")
    assert ground.start().error == ""
    assert ground.start().error == "a drill is under way"
    ground.end()
    assert "wait" in ground.start().error
    ground.now += PAUSE_S
    assert ground.start().error == "" and len(ground.made) == 2


def test_everybody_sees_the_latest_reports_and_no_more(ground):
    for _ in range(KEPT + 3):
        ground.now += PAUSE_S
        assert ground.start().error == ""
        ground.end()
    state = ground.ask(do="state")
    assert len(state.reports) == KEPT and "scan" in state.kinds


@pytest.mark.parametrize("line", [b"", b"{}", b"[" * 3000, b'{"do":"start","to":"192.0.2.1"}'])
def test_what_is_no_request_is_refused(ground, line):
    assert ground.served.answer(line).error == "not a request"
    assert ground.made == []


def test_over_the_socket(ground, tmp_path):
    with pytest.raises(DrillError, match="drill prepare"):
        ask_drills(tmp_path, Ask(do="state"))
    with ground.served:
        thread = threading.Thread(target=ground.served.serve)
        thread.start()
        with pytest.raises(DrillError, match="token"):
            ask_drills(tmp_path, Ask(do="start", kind="scan"))
        long = Ask(do="start", kind="scan", token="x" * MAX_BYTES)
        with pytest.raises(DrillError):
            ask_drills(tmp_path, long)
        assert ask_drills(tmp_path, Ask(do="state")).reports == []
        ground.served.stop()
        thread.join(60)
    assert not (tmp_path / "drill.sock").exists()


def test_only_a_port_makes_a_drill():
    assert is_drill("ids-drill-a") and not is_drill("eth0") and not is_drill("")
    assert names_drill("02:1d:d7:11:00:0a@ids-drill-a")
    assert not names_drill("02:1d:d7:11:00:0a@eth0") and not names_drill("ids-drill-a")


@pytest.mark.parametrize(("port", "drill"), [("ids-drill-a", True), ("eth0", None)])
def test_events_of_a_drills_port_say_so(port, drill):
    told = []
    stories = Stories(lambda kind, **fields: told.append((kind, fields)), lambda index: port)
    subject = Subject(Kind.MAC, bytes.fromhex("021dd711000a"), interface=port)
    stories.tell(Decision(1, subject, Response.QUARANTINE, 600.0, "port_scan"))
    ((kind, fields),) = told
    assert kind == "decision" and fields.get("drill") is drill
