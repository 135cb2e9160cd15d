"""Who may order: whoever has the token, and nobody else."""

import os
import stat

import pytest

from ids_appliance.dashboard.authority import Authority, make_token, read_token
from ids_appliance.errors import ConfigError, PermissionMissing
from ids_appliance.gateway.messages import Release
from tests.gateway.running import as_user, reachable, running

ORDER = Release(text="192.0.2.66")


@pytest.fixture
def gateway(tmp_path):
    with running(tmp_path / "run") as gateway:
        yield gateway


def released(gateway):
    return ("release", "192.0.2.66") in gateway.actions.calls


def test_the_gateways_token(gateway):
    authority = Authority(gateway.run_dir)
    assert authority.where == gateway.run_dir / "token"
    for wrong in ("", "  ", "0" * 64, "0" * 200, "\N{SNOWMAN}" * 20):
        with pytest.raises(PermissionMissing):
            authority.give(ORDER, wrong)
    assert not released(gateway)
    authority.give(ORDER, f" {authority.where.read_text()}\n")
    assert released(gateway)


def test_a_token_of_its_own(gateway, tmp_path):
    path = tmp_path / "own"
    make_token(path)
    token = read_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    make_token(path)
    assert read_token(path) == token
    authority = Authority(gateway.run_dir, path)
    for wrong in ("", "x" * 43, (gateway.run_dir / "token").read_text(), "\N{SNOWMAN}"):
        with pytest.raises(PermissionMissing):
            authority.give(ORDER, wrong)
    assert not released(gateway)
    authority.give(ORDER, token)
    assert released(gateway)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_token_that_others_can_read_is_none(tmp_path, mode):
    path = tmp_path / "own"
    make_token(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(path)


@pytest.mark.parametrize("content", ["", "short", "x" * 200])
def test_what_is_no_token_is_told(tmp_path, content):
    path = tmp_path / "own"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(ConfigError, match="no token"):
        make_token(path)


def test_no_link_is_followed(tmp_path):
    (tmp_path / "real").touch(mode=0o600)
    (tmp_path / "own").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError):
        make_token(tmp_path / "own")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_whoever_may_ask_needs_no_more_than_the_token(tmp_path_factory):
    where = reachable(tmp_path_factory.mktemp("open"))
    code = (
        "import sys, pathlib\n"
        "from ids_appliance.dashboard.authority import Authority\n"
        "from ids_appliance.gateway.messages import Release\n"
        "Authority(pathlib.Path(sys.argv[1])).give(Release(text='192.0.2.66'), sys.argv[2])\n"
    )
    with running(where / "run", group="nogroup") as gateway:
        gid = os.stat(where / "run" / "read.sock").st_gid
        token = (gateway.run_dir / "token").read_text()
        refused = as_user(65_000, code, where / "run", "0" * 64, gid=gid)
        assert refused.returncode != 0 and "PermissionMissing" in refused.stderr
        assert not released(gateway)
        done = as_user(65_000, code, where / "run", token, gid=gid)
        assert done.returncode == 0, done.stderr
        assert released(gateway)
