"""`python -m ids_appliance`: the same as the `ids-appliance` command."""

from ids_appliance.cli import main

main(prog_name="ids-appliance")
