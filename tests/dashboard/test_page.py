"""The page as Streamlit draws it, over real control sockets with known answers behind them."""

import sys
import threading

import msgspec
import pytest

from ids_appliance.dashboard.serve import PAGE
from ids_appliance.dashboard.settings import Settings, encode_settings
from ids_appliance.drill.messages import Step
from ids_appliance.drill.serve import Served
from ids_appliance.telemetry.delays import Delays
from tests.architecture.sources import ROOT
from tests.drill.test_serve import Playing
from tests.gateway.running import CAMERA, STATUS, WINDOW, running

testing = pytest.importorskip("streamlit.testing.v1", reason="needs ids-appliance[dashboard]")
PATIENCE_S = 120


@pytest.fixture
def gateway(tmp_path):
    with running(tmp_path / "run") as gateway:
        yield gateway


@pytest.fixture
def page(gateway, monkeypatch):
    settings = Settings(
        run_dir=str(gateway.run_dir),
        model=str(ROOT / "models" / "iot-top20"),
        refresh_s=0.001,  # each drawing asks anew
    )
    monkeypatch.setattr(sys, "argv", ["page", encode_settings(settings)])
    return testing.AppTest.from_file(str(PAGE), default_timeout=PATIENCE_S).run()


def on(page, panel):
    page.radio(key="panel").set_value(panel).run()
    assert not page.exception
    return page


def words(page):
    """Everything that the page says."""
    kinds = ("text", "info", "warning", "error", "success", "markdown", "caption", "code")
    return [element.value for kind in kinds for element in getattr(page, kind)]


def test_every_panel_is_filled(page):
    assert not page.exception
    assert [m.value for m in page.metric][-2:] == ["1", "closed"]
    assert any(STATUS.mode.replace("-", "\\-") in text for text in words(page))
    assert any("One moment" in text for text in words(page))
    texts = words(on(page, "Blocked senders"))
    assert any(CAMERA in text for text in texts) and any("port_scan, and 412" in t for t in texts)
    (rows,) = [frame.value for frame in on(page, "Windows").dataframe]
    assert list(rows["number"]) == [WINDOW.id] and list(rows["judged"]) == [WINDOW.judged]
    texts = words(on(page, "Queues and delays"))
    assert (
        "Delay per packet: not in this mode." in texts
        and "Inline queue: not in this mode." in texts
    )
    assert any("one model judges" in text for text in words(on(page, "Votes")))
    tables = [frame.value for frame in on(page, "Health").dataframe]
    assert list(tables[1]["interface"]) == ["br-lan"] and list(tables[1]["lost"]) == [12]
    texts = words(on(page, "Model"))
    assert STATUS.model in texts and any("What to expect" in text for text in texts)
    assert any("nobody serves drills" in text for text in words(on(page, "Drills")))


def test_a_drill_is_run_by_a_click_and_a_token(page, gateway):
    def make(kind):
        drill = Playing(kind)
        drill.report.steps.append(Step("contained", 1.25, "quarantine"))
        drill.report.outcome = "contained after 1.25 s"
        drill.over.set()
        return drill

    with Served(gateway.run_dir, make, clock=lambda: 100.0) as served:
        thread = threading.Thread(target=served.serve)
        thread.start()
        on(page, "Drills").button(key="drill-scan").click().run()
        assert any("a drill needs the token" in error.value for error in page.error)
        page.text_input(key="token").set_value((gateway.run_dir / "token").read_text()).run()
        page.button(key="drill-scan").click().run()
        assert any("is under way" in text.value for text in page.success)
        page.run()
        assert any("DRILL · scan" in text and "contained after" in text for text in words(page))
        (steps,) = [frame.value for frame in page.dataframe]
        assert list(steps["what"]) == ["contained"] and list(steps["after s"]) == [1.25]
        served.stop()
        thread.join(60)


def test_an_inline_gateway_shows_its_delays_and_queues(page, gateway):
    delays = Delays()
    delays.add([0] * 10, now_ns=70_000)
    counters = delays.counters("inline_delay") | {"queue_held": 3, "tc_waiting_wan0/suspect": 2}
    gateway.actions.status = lambda: msgspec.structs.replace(STATUS, counters=counters)
    inline, outgoing, _ = [frame.value for frame in on(page, "Queues and delays").dataframe]
    assert list(inline["packets"]) == [3] and list(outgoing["waiting"]) == [2]
    assert len(page.get("vega_lite_chart")) == 1


def test_hostile_names_are_shown_as_they_are(page):
    texts = words(on(page, "Blocked senders"))
    assert any("Camera?[31m? of the hall" in text for text in texts)


def test_a_release_needs_the_token(page, gateway):
    on(page, "Blocked senders").button(key="release-7").click().run()
    assert any("orders need the token" in error.value for error in page.error)
    page.text_input(key="token").set_value("0" * 64).run()
    page.button(key="release-7").click().run()
    assert any("token" in error.value for error in page.error)
    assert ("release", f"{CAMERA}@br-lan") not in gateway.actions.calls


def test_with_the_token_a_release_is_an_order(page, gateway):
    on(page, "Blocked senders")
    token = (gateway.run_dir / "token").read_text()
    page.text_input(key="token").set_value(token).run()
    page.button(key="release-7").click().run()
    assert ("release", f"{CAMERA}@br-lan") in gateway.actions.calls
    assert any("1 decision has ended" in text.value for text in page.success)
    (order,) = gateway.orders
    assert order.by_token and order.outcome == "done" and token not in repr(order.details)


def test_a_search_is_the_gateways_work(page, gateway):
    on(page, "Blocked senders").text_input(key="find").set_value("camera").run()
    assert ("page", 15, 0, "camera") in gateway.actions.calls


def test_a_gateway_that_is_gone_is_a_line_and_no_end(page, gateway):
    gateway.close()
    page.run()
    on(page, "Health")
    assert any("no gateway" in error.value for error in page.error)
