"""`ids-appliance bench`: a report names the command that makes it again."""

import pytest

from ids_appliance.cli.bench import called, command


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--quick", "--cgroup", "1core-1gb", "--modes", "tapped,offloaded"],
        ["--mixes", "mixed", "--step", "2.5", "--rounds", "3", "--fixed", "15000,19500", "--apart"],
        ["--fixed", ""],
    ],
)
def test_the_command_is_told_as_it_was_given(words, tmp_path):
    context = command.make_context("bench", [*words, "--out", str(tmp_path)])
    told = called(context).split()
    assert told[:2] == ["ids-appliance", "bench"] and str(tmp_path) not in told
    again = command.make_context("bench", ["" if word == '""' else word for word in told[2:]])
    assert {**again.params, "out": tmp_path} == context.params
