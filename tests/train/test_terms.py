"""Terms say for every repository whether a model may ship, and the shipped list is conservative."""

import json

import pytest

from ids_appliance.errors import LabelError
from ids_appliance.train.terms import read_terms


def test_shipped_terms():
    terms = read_terms()
    for forbidden in ("l-laura/MQTTset-reduced", "tj-oconnor/IoT-Dataset", "ntop/nDPI"):
        assert not terms[forbidden].ship
    for one in terms.values():
        assert one.why
        if one.ship:
            assert one.cite and not one.terms.startswith("none stated")
            assert "GPL" not in one.terms and "NC" not in one.terms.replace("NCSA", "")


@pytest.mark.data
def test_every_repository_of_the_data_is_decided(data_dir):
    files = json.loads((data_dir / "labels.json").read_text())["files"]
    assert {f["origin"]["repo"] for f in files} <= set(read_terms())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not hold"),
        ("{}", "does not hold"),
        ('{"repositories": [{"repo": "a"}]}', "does not hold"),
        (
            '{"repositories": [{"repo": "a", "terms": "", "ship": "no", "why": "", "cite": ""}]}',
            "a needs ship",
        ),
        (
            '{"repositories": [{"repo": "a", "terms": "", "ship": true, "why": "", "cite": ""}]}',
            "a needs ship",
        ),
    ],
)
def test_bad_terms(tmp_path, content, message):
    (tmp_path / "terms.json").write_text(content)
    with pytest.raises(LabelError, match=message):
        read_terms(tmp_path / "terms.json")
    with pytest.raises(LabelError, match="cannot read"):
        read_terms(tmp_path / "none.json")
