"""Settings and an address in, the command line of the page's server out."""

import importlib.util
import sys
from pathlib import Path
from typing import Final

from ids_appliance.dashboard.settings import Settings, encode_settings
from ids_appliance.errors import IdsError

PAGE: Final = Path(__file__).with_name("page.py")
LOCAL: Final = "127.0.0.1"
PORT: Final = 8501

OPTIONS: Final = {
    "server.headless": "true",  # opens no browser, asks nobody's address
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "1",
    "server.disconnectedSessionTTL": "30",
    "browser.gatherUsageStats": "false",  # tells nobody about us
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "runner.magicEnabled": "false",
    "logger.level": "warning",
}


def server_command(settings: Settings, *, host: str = LOCAL, port: int = PORT) -> list[str]:
    """Return the words that serve the page. Raises IdsError: Streamlit is not installed."""
    if importlib.util.find_spec("streamlit") is None:
        raise IdsError(
            "`dashboard` needs streamlit, which is not installed here: "
            f"{sys.executable} -m pip install 'ids-appliance[dashboard]'"
        )
    options = OPTIONS | {"server.address": host, "server.port": str(port)}
    flags = [f"--{name}={value}" for name, value in options.items()]
    run = [sys.executable, "-m", "streamlit", "run", str(PAGE), *flags]
    return [*run, "--", encode_settings(settings)]
