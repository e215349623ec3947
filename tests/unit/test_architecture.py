"""Holds the rooms of the project: who may import whom, and what no module does.

A new module belongs into ``LAYERS``, and that is the moment to ask which room it is.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "die_algorithm"

#: From the bottom to the top. A module imports from layers below its own; within a layer, modules
#: may lean on each other without going round in circles. A package counts as one room.
LAYERS: dict[str, set[str]] = {
    "words": {"__init__", "models", "check", "errors", "wps2_errors"},
    "rules": {
        "settings",
        "settings_values",
        "credentials",
        "token_forms",
        "token_mask",
        "job_in_hand",
        "image_reference",
        "image_refusals",
        "repository_pattern",
        "image_policy",
        "policy",
        "configuration",
        "container_rules",
        "known_flaws",
        "probe_report",
        "job_request",
        "item_reference",
        "inline_content",
        "public_link",
        "input_files",
        "job_options",
        "locators",
        "rate_limits",
        "registry_rests",
        "senders",
        "turns",
        "stopwatches",
        "fail_points",
        "versions",
        "service_spec",
        "states",
        "faults",
        "terminal_text",
        "shown_address",
        "xml_writer",
        "description",
        "wps_operations",
        "wps_kvp",
        "wps_xml",
        "xml_reader",
        "wps2_operations",
        "wps2_kvp",
        "wps2_xml",
    },
    "connections": {"paced_http", "lasting_files"},
    "adapters": {
        "storagehub",
        "public_links",
        "registry",
        "swarm",
        "archive",
        "job_store",
        "worker_place",
        "admin_tokens",
        "results",
        "http_server",
    },
    "use case": {
        "waiters",
        "sync_places",
        "callers",
        "owners",
        "questions",
        "given_items",
        "images",
        "engine",
        "steps",
        "janitor",
        "worker",
    },
    "assembly": {"runtime", "first_start", "readiness", "doctor", "probe", "worker_process"},
    "doors": {
        "links",
        "documents",
        "capabilities",
        "door_headers",
        "downloads",
        "job_list",
        "refusals",
        "http_answers",
        "execute_door",
        "pywps_settings",
        "process",
        "wps2_capabilities",
        "wps2_documents",
        "wps2_jobs",
        "web",
        "server",
    },
    "command line": {"commands", "cli", "__main__"},
}
#: Whole programs beside the service: they share with it the words, and how to listen.
BESIDE = {"local_storagehub", "local_swarm"}
BESIDE_MAY_IMPORT = LAYERS["words"] | {"http_server"}
#: Who may start them.
MAY_IMPORT_BESIDE = {"commands"}

#: Libraries that one room alone speaks to.
OWNERS = {
    "docker": {"swarm"},
    "requests": {"storagehub", "public_links", "registry", "paced_http"},
    "urllib3": {"storagehub", "paced_http", "swarm"},
    "pywps": {"process", "pywps_settings"},
    "sqlalchemy": {"job_store"},
    "alembic": {"job_store"},
    "waitress": {"http_server", "server"},
    "click": {"cli", "commands", "local_swarm"},
    "lxml": {"xml_writer", "xml_reader", "wps_xml", "wps2_xml"},
}
#: Where whatever nobody foresaw may be caught: the loop, and the door.
CATCH_ALL = {"worker": 5, "worker_process": 1, "web": 1, "process": 1}

MODULES = sorted(PACKAGE.rglob("*.py"))
LEVEL = {module: level for level, layer in enumerate(LAYERS.values()) for module in layer}


def room(path: Path) -> str:
    """The module, or the package that it is a part of."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, from anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    """The rooms that a module imports; the package itself counts as ``__init__``."""
    rooms = set()
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == PACKAGE.name:
            first = parts[1] if len(parts) > 1 else "__init__"
            known = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file()
            rooms.add(first if known else "__init__")
    return rooms - {room(path)}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def module_names() -> list[str]:
    """The dotted names of all modules but the one that runs the program."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.stem != "__main__"
    ]


each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def test_every_module_has_its_room() -> None:
    assert {room(path) for path in MODULES} == set(LEVEL) | BESIDE


@each_module
def test_imports_go_down_only(path: Path) -> None:
    here = room(path)
    below = rooms_imported(path)
    if here in BESIDE:
        assert below <= BESIDE_MAY_IMPORT
        return
    if here not in MAY_IMPORT_BESIDE:
        assert not below & BESIDE
    above = {other for other in below - BESIDE if LEVEL[other] > LEVEL[here]}
    assert not above, f"{here} imports {above} from a higher layer"


def test_adapters_never_import_each_other() -> None:
    for path in MODULES:
        if room(path) in LAYERS["adapters"]:
            assert not rooms_imported(path) & LAYERS["adapters"], path


def test_nothing_imports_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        below = graph.setdefault(name, set())
        for dotted in imported(path):
            parts = dotted.split(".")
            while parts and parts[0] == PACKAGE.name:
                file = ROOT.joinpath(*parts)
                if file.with_suffix(".py").is_file() or (file / "__init__.py").is_file():
                    below.add(".".join(parts))
                    break
                parts.pop()
        below.discard(name)
    tuple(TopologicalSorter(graph).static_order())


@each_module
def test_a_library_is_spoken_to_in_its_own_room(path: Path) -> None:
    for name in imported(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or room(path) in owners, f"{name} in {path.name}"


def test_the_service_needs_no_pywps() -> None:
    of_pywps = {f"die_algorithm.{name}" for name in OWNERS["pywps"]}
    names = [name for name in module_names() if name not in of_pywps]
    program = "import importlib, sys\n[importlib.import_module(name) for name in sys.argv[1:]]\n"
    completed = subprocess.run(
        [sys.executable, "-c", f"{program}print('pywps' in sys.modules)", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert completed.stdout.strip() == "False"


def test_the_environment_is_read_in_settings_alone() -> None:
    for path in MODULES:
        reads = any(
            isinstance(node, ast.Attribute)
            and node.attr in ("environ", "environb", "getenv", "putenv")
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            for node in ast.walk(tree(path))
        )
        assert not reads or room(path) == "settings", path
        for name in imported(path):
            assert name not in ("os.environ", "os.getenv", "os.environb"), path


@each_module
def test_errors_are_caught_by_name(path: Path) -> None:
    caught_all = 0
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"a bare except in line {node.lineno}"
            broad = ast.unparse(node.type)
            cleans_up = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if "BaseException" in broad:
                assert cleans_up, f"{broad} in line {node.lineno} swallows an interrupt"
            elif broad == "Exception" and not cleans_up:
                caught_all += 1
    assert caught_all <= CATCH_ALL.get(room(path), 0)


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "base", "core"}
    assert not {path.stem.strip("_") for path in MODULES} & drawers


# -- no module state, and nothing happens at import

_CHANGES = {
    *("append", "extend", "insert", "remove", "pop", "popitem", "clear", "sort", "reverse"),
    *("update", "setdefault", "add", "discard"),
}
_BLOCKS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def constants(module: ast.Module) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in module.body:
        if isinstance(node, ast.Assign):
            found |= {ast.unparse(target): node.value for target in node.targets}
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            found[ast.unparse(node.target)] = node.value
    return found


@each_module
def test_a_module_only_defines(path: Path) -> None:
    for node in tree(path).body:
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        elif isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), f"line {node.lineno} does something"
        else:
            assert isinstance(node, (*_BLOCKS, ast.Assign, ast.AnnAssign)), f"line {node.lineno}"


@each_module
def test_what_a_module_defines_is_never_changed(path: Path) -> None:
    module = tree(path)
    # A table's update() makes a statement.
    names = {n for n, value in constants(module).items() if "sa.Table" not in ast.unparse(value)}
    for node in ast.walk(module):
        assert not isinstance(node, ast.Global), f"line {node.lineno}"
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            assert ast.unparse(node.value) not in names, f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changes = node.func.attr in _CHANGES and ast.unparse(node.func.value) in names
            assert not changes, f"line {node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("cache"):
            raise AssertionError(f"line {node.lineno}: a cache is module state")


IMPORT_ALL = """
import importlib, json, logging, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
ours = [log for name, log in logging.root.manager.loggerDict.items() if name.startswith("die_algo")]
print(json.dumps({
    "threads": threading.active_count(),
    "root handlers": len(logging.root.handlers),
    "own handlers": sum(len(getattr(log, "handlers", ())) for log in ours),
}))
"""


def test_importing_everything_leaves_no_trace(tmp_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, *module_names()],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert completed.stderr == ""
    found = json.loads(completed.stdout)
    assert found == {"threads": 1, "root handlers": 0, "own handlers": 0}
    assert list(tmp_path.iterdir()) == []
