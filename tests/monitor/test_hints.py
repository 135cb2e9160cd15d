"""What may be meant but has a price is said once, in one line; what has none is not."""

from ids_appliance.monitor.hints import hints
from ids_appliance.monitor.read import examples, load


def test_a_controller_whose_absence_costs_the_quarantines() -> None:
    told = {name: hints(load(name)) for name in examples()}
    assert told["s3"] == told["s3-embedded"] == []
    (line,) = told["s3-containers"]
    assert 'set "secure"' in line and "\n" not in line
