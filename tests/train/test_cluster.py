"""One process, two workers, a worker killed under way: tables, draws and bundles are the same."""

import os
import platform
import random
import signal
import threading
import time

import pytest
from click.testing import CliRunner
from distributed import LocalCluster

from ids_appliance.classify.bundle import save_bundle
from ids_appliance.cli import main
from ids_appliance.errors import ClusterError
from ids_appliance.train.cluster import _clear_left, connect
from ids_appliance.train.fit import Recipe
from ids_appliance.train.readers import catalogue
from ids_appliance.train.scale import Alone, Extraction, extract_corpus, open_workers
from ids_appliance.train.training import Options, gather, train
from tests.ext import frames as f
from tests.train.captures import life, write_pcap
from tests.train.ciciot import make_tree

LONG_S = 120
"""Nothing here takes that long, on whatever machine; waiting ends with the event itself."""


def content(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.name[0] != "."}


def run(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def slow(job):
    """Answer with one's process, or wait to be killed where there is a file that says so."""
    die, place = job
    if place == 0 and not die.exists():
        die.write_text(str(os.getpid()))
        time.sleep(LONG_S)
    return os.getpid()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    make_tree(root, n=60, only=["DoS-SYN_Flood", "Recon-PortScan", "Mirai-udpplain"])
    return root


@pytest.fixture(scope="module")
def two_workers():
    with connect("local:2") as cluster:
        yield cluster


def test_two_workers_give_the_bytes_of_one_process(tree, tmp_path, two_workers):
    recipe = Recipe(trees=5, leaves=8, jobs=1)
    bundles = []
    for name, workers in (("a", Alone()), ("b", two_workers)):
        extract_corpus(Extraction(catalogue(tree), tmp_path / name), workers)
        options = Options(tmp_path / name, recipe, folds=0, rows=150)
        trained = train(options, gather(options, workers=workers))
        save_bundle(trained.bundle, tmp_path / f"model-{name}", card_md="")
        bundles.append(content(tmp_path / f"model-{name}"))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert bundles[0] == bundles[1] and len(bundles[0]) == 3


def kill_who_wrote(path, killed):
    """Kill the process that is named in a file as soon as it is there."""
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        if path.exists() and (pid := path.read_text()):
            os.kill(int(pid), signal.SIGKILL)
            killed.append(int(pid))
            return
        time.sleep(0.05)


def test_a_killed_workers_job_is_done_by_another(tmp_path, two_workers):
    die, killed = tmp_path / "die", []
    killer = threading.Thread(target=kill_who_wrote, args=(die, killed))
    killer.start()
    found = dict(two_workers.run(slow, [(die, place) for place in range(6)]))
    killer.join()
    assert len(killed) == 1 and set(found) == set(range(6))
    assert found[0] != killed[0]


@pytest.mark.nightly
def test_tables_and_bundles_are_the_same_after_a_worker_is_killed_while_writing(tmp_path):
    root, out, alone = tmp_path / "data", tmp_path / "tables", tmp_path / "alone"
    frames = [f.ethernet(f.ipv4(f.tcp(os.urandom(40), ports=(i, 80)))) for i in range(4096)]
    for name in ("DoS-SYN_Flood", "DoS-TCP_Flood", "Recon-PortScan"):
        write_pcap(root / f"{name}.pcap", frames * 100)
    write_pcap(root / "BenignTraffic.pcap", life(random.Random(1), 4096, port=80))
    listed, killed = catalogue(root), []
    extract_corpus(Extraction(listed, alone, piece_frames=65536), Alone())

    def kill_a_writer():
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            # The second table in the making: the first one is there, and is to be kept.
            for path in out.glob(".writing-*-0001.parquet"):
                number = path.name.removeprefix(f".writing-{platform.node()}-").partition("-")[0]
                os.kill(int(number), signal.SIGKILL)
                killed.append(int(number))
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_a_writer)
    killer.start()
    with open_workers("local:2") as workers:
        extract_corpus(Extraction(listed, out, piece_frames=65536), workers)
        killer.join()
        assert len(killed) == 1
        assert content(out) == content(alone) and len(content(out)) > 20
        options = Options(out, Recipe(trees=5, leaves=8, jobs=1), folds=0, rows=3000)
        trained = [gather(options, workers=w).packets for w in (Alone(), workers)]
    assert (trained[0].rows == trained[1].rows).all()
    assert (trained[0].classes == trained[1].classes).all()


def test_a_scheduler_of_ones_own_is_used_by_its_address(tree, tmp_path):
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        protocol="tcp://",
    ) as cluster:
        run(
            "extract",
            "--data",
            tree,
            "--tables",
            tmp_path / "a",
            "--dask",
            cluster.scheduler_address,
        )
    run("extract", "--data", tree, "--tables", tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("address", ["local", "local:0", "local:x", "local:65"])
def test_a_number_of_workers_that_cannot_be_meant(address):
    with pytest.raises(ClusterError, match="say how many workers"), connect(address):
        pass


def test_what_a_killed_run_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, living = (f"ids-appliance-dask-{pid}-abc" for pid in (2**22 + 1, os.getpid()))
    for name in (dead, living, "other"):
        (tmp_path / name / "inside").mkdir(parents=True)
    _clear_left()
    assert {path.name for path in tmp_path.iterdir()} == {living, "other"}


def test_nobody_at_the_address(monkeypatch):
    monkeypatch.setattr("ids_appliance.train.cluster.CONNECT_S", 1)
    with (
        pytest.raises(ClusterError, match="no Dask scheduler answers"),
        connect("tcp://127.0.0.1:1"),
    ):
        pass
    with pytest.raises(ClusterError, match="no Dask scheduler answers"), connect("nonsense://x"):
        pass


def test_other_versions_are_refused(tmp_path, monkeypatch):
    answers = iter([{"numpy": "1"}, {"numpy": "2"}])
    monkeypatch.setattr("ids_appliance.train.cluster.identity", lambda: next(answers))
    with (
        LocalCluster(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp://"
        ) as cluster,
        pytest.raises(ClusterError, match="has numpy 2, this program 1"),
        connect(cluster.scheduler_address),
    ):
        pass
