"""`ids-appliance monitor image`: the definition that ships in, a container image out."""

import shutil
import subprocess

import click

from ids_appliance.errors import MonitorError
from ids_appliance.monitor.capture_settings import IMAGE
from ids_appliance.monitor.container import CONTAINERFILE, ENGINES, build_words


@click.command()
@click.option("--engine", type=click.Choice(ENGINES), help="The one that is installed, else.")
@click.option("--image", default=IMAGE, show_default=True, help="Name to give it.")
@click.option("--base", default="", help="Image to begin with, instead of Debian's.")
@click.option("--with", "extra", multiple=True, metavar="PACKAGE", help="Add it, such as tshark.")
@click.option("--show", is_flag=True, help="Only print the definition.")
def command(engine: str | None, image: str, base: str, extra: tuple[str, ...], show: bool) -> None:
    """Build the container image that `monitor capture` runs tcpdump in.

    \b
    Examples:
      ids-appliance monitor image
      debootstrap --variant=minbase --include=tcpdump,libcap2-bin bookworm tree
      tar -C tree -c . | docker import - mydebian
      ids-appliance monitor image --base mydebian
    """
    if show:
        click.echo(CONTAINERFILE.read_text(encoding="utf-8"), nl=False)
        return
    found = [one for one in ENGINES if shutil.which(one) and engine in (None, one)]
    if not found:
        raise MonitorError(
            f"{engine or 'no container engine'} is not installed: apt-get install podman; captures "
            "work without (--engine none)"
        )
    done = subprocess.run(build_words(found[0], image, base=base, extra=extra), check=False)
    if done.returncode != 0:
        raise MonitorError(f"{found[0]} could not build {image}: what it said is above")
    click.echo(f"{found[0]} has {image}")
