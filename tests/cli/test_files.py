"""Files that cannot be written, whatever command was told to: one line, and exit code 2."""

from tests.architecture.sources import ROOT
from tests.cli.asked import call, one_line


def test_a_page_that_cannot_be_written_is_one_line():
    made = ROOT / "docs" / "benchmarks" / "run"
    # Nobody writes a file there, root included.
    done = call("reproduce", "s1-table3", "--from", str(made), "--output", "/proc/page.md")
    assert one_line(done).startswith("Error: /proc/page.md: ")
