"""The zoo, made once a session, and what the kinds of it are expected to give."""

import importlib.util
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def _load(name: str):
    spec = importlib.util.spec_from_file_location(f"robustness_{name}", _HERE / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


zoo_module = _load("zoo")


class Zoo:
    """The folder, the kinds by name, and why some could not be made here."""

    def __init__(self, folder: Path):
        self.folder = folder
        made = zoo_module.build(folder)
        self.kinds = {k.name: k for k in zoo_module.KINDS}
        self.paths = {name: where for name, where in made.items() if isinstance(where, Path)}
        self.missing = {name: where for name, where in made.items() if isinstance(where, str)}

    def path(self, name: str) -> Path:
        if name in self.missing:
            pytest.skip(self.missing[name])
        return self.paths[name]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo") / "videos")


@pytest.fixture(scope="session")
def makers():
    """The module that makes the zoo."""
    return zoo_module


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", zoo_module.KINDS, ids=lambda k: k.name)


def pytest_collection_modifyitems(config, items):
    if "nightly" not in (config.option.markexpr or ""):
        for item in items:
            if _HERE in Path(item.path).parents and item.get_closest_marker("nightly"):
                item.add_marker(pytest.mark.skip(reason="too long for every run: -m nightly"))
