"""No setting is there for nobody: each is read somewhere beside where it is declared."""

import ast
from collections.abc import Iterator

from ids_appliance.config_file.words import settings
from tests.architecture.sources import PYTHON_FILES, module_of, tree

DECLARED = ("ids_appliance.config", "ids_appliance.config_file")


def read() -> Iterator[str]:
    """Yield the names of attributes that the package asks for."""
    for path in PYTHON_FILES:
        module = module_of(path)
        if module.startswith("ids_appliance") and not module.startswith(DECLARED):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Attribute):
                    yield node.attr


def test_every_setting_is_read() -> None:
    asked = set(read())
    assert [setting.place for setting in settings() if setting.key not in asked] == []
