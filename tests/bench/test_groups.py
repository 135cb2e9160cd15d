"""Control groups of who was killed are gone at the next start; real ones are in test_bed.py."""

from pathlib import Path

from ids_appliance.bench import groups
from ids_appliance.lab.namespaces import PREFIX


def test_who_outlived_a_killed_owner_is_ended_before_its_group_is_removed(tmp_path, monkeypatch):
    dead = tmp_path / f"{PREFIX}999999999.5-cgroup-1core-1gb"
    dead.mkdir()
    (dead / "somebody").touch()  # a directory that is not empty stands for a group that is not

    def ended() -> list[str]:
        (dead / "somebody").unlink(missing_ok=True)
        return []

    monkeypatch.setattr(groups, "ROOT", tmp_path)
    monkeypatch.setattr(groups, "sweep_namespaces", ended)
    groups.sweep()
    assert not dead.exists()


def test_a_group_is_removed_as_soon_as_the_last_process_has_gone(tmp_path, monkeypatch):
    asked = []

    def rmdir(path: Path) -> None:
        asked.append(path)
        if len(asked) < 3:
            raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rmdir", rmdir)
    monkeypatch.setattr(groups, "PAUSE_S", 0.0)
    groups._remove(tmp_path / "group")
    assert asked == [tmp_path / "group"] * 3
