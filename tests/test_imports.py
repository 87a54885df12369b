"""The layout: folders on few floors, imports that point down, no circles, few loose modules, short files."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import tapc
from tapc.base.arithmetic import arithmetics
from tapc.base.isa import Isa
from tapc.graph.rules import rules

ROOT = Path(tapc.__file__).parent
# From the ground up: a folder imports from its own and from lower floors, never from its neighbours.
FLOORS = (
    ("base",),
    ("audio", "data", "graph", "hardware", "kernels", "zoo"),
    ("allocate", "frontend", "ir", "proxy"),
    ("operators",),
    ("lower", "quantize"),
    ("cost", "cycles", "device", "finetune", "firmware", "flash", "npu"),
    ("report", "tuning"),
    ("flow",),
    ("bench", "pareto", "search"),
    ("cli",),
)
FORMS = [["kernels", isa] for isa in get_args(Isa)]
# What runs on devices knows none of them: these modules, and no attribute of one device's description of a core.
# Dialog and speaking image are those of every board and emulator behind a line.
DEVICES_INTERFACE = ("tapc.device", "tapc.device.dialog", "tapc.device.speaking", "tapc.device.verify")
DEVICES_FACTS = {"qemu": ("tapc.device.", "tapc.firmware.", "tapc.hardware.")}
MODES = {arithmetic.name for arithmetic in arithmetics()}
STAGES = [
    [name] for name in ("quantize", "finetune", "lower", "allocate", "cost", "cycles", "report", "tuning", "flow")
]
MOST_FLOORS = 10
MOST_LOOSE = 4
MOST_LINES = 400


def module_of(path: Path) -> str:
    """Return a file's module, `tapc.lower.plan`, or its folder's where it is an `__init__.py`."""
    return ".".join(("tapc", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(code: str, modules: Mapping[str, object] = MODULES) -> Iterator[str]:
    """Yield the modules of tapc that code imports, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tapc":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tapc")


def upwards(module: str, imported: set[str]) -> list[str]:
    """Return what a module must not import."""
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    own = module.split(".")[1]
    others = {name for name in imported if name != "tapc" and name.split(".")[1] != own}
    return sorted(name for name in others if floor[name.split(".")[1]] >= floor[own])


def forms(imported: set[str]) -> list[str]:
    """Return what is imported of an instruction set's kernels."""
    return sorted(name for name in imported if name.split(".")[1:3] in FORMS)


def compared_modes(code: str) -> list[int]:
    """Return the lines that compare something with the name of an arithmetic."""
    lines = []
    for node in ast.walk(ast.parse(code)):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        sides += [node.value] if isinstance(node, ast.MatchValue) else []
        found = (part for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant))
        lines += [part.lineno for part in found if part.value in MODES]
    return lines


def named_operators(code: str) -> list[str]:
    """Return the operators that code imports or spells out."""
    spelled = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    return sorted({
        *(name for name in imports(code) if name.startswith("tapc.operators.")),
        *(value for value in spelled if isinstance(value, str) and value in rules()),
    })  # fmt: skip


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, or nothing."""
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for other in sorted(graph.get(name, ())):
            if found := visit(other):
                return found
        path.pop()
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name))), [])


def of_one_device(module: str, code: str) -> list[str]:
    """Return what a module outside `tapc.device` must not import or ask: modules of devices, and facts for them."""
    within = f"{module}.".startswith("tapc.device.")
    found = [name for name in imports(code) if name.startswith("tapc.device") and name not in DEVICES_INTERFACE]
    asked = [node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    facts = [name for name in asked if name in DEVICES_FACTS and not f"{module}.".startswith(DEVICES_FACTS[name])]
    return sorted({*facts, *(() if within else found)})


def offenders(excepted: Callable[[str], bool], found: Callable[[str], Sequence[object]]) -> dict[str, Sequence[object]]:
    """Return what a check finds in each module."""
    checked = {name: found(name) for name in sorted(MODULES) if not excepted(name)}
    return {name: what for name, what in checked.items() if what}


GRAPH = {name: set(imports(path.read_text(encoding="utf-8"))) - {name} for name, path in MODULES.items()}


CODE = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}


def test_no_import_points_upwards() -> None:
    assert not offenders(lambda name: name in ("tapc", "tapc.__main__"), lambda name: upwards(name, GRAPH[name]))


def test_instruction_sets_are_known_to_kernels_alone() -> None:
    assert not offenders(lambda name: name.startswith("tapc.kernels"), lambda name: forms(GRAPH[name]))


def test_devices_are_used_by_their_interface() -> None:
    assert not offenders(lambda name: False, lambda name: of_one_device(name, CODE[name]))


def test_arithmetics_are_asked_not_compared() -> None:
    assert not offenders(lambda name: name.startswith("tapc.base.arithmetic"), lambda name: compared_modes(CODE[name]))


def test_stages_ask_operators_and_name_none() -> None:
    assert not offenders(lambda name: name.split(".")[1:2] not in STAGES, lambda name: named_operators(CODE[name]))


def test_no_circles() -> None:
    assert not circle({name: others for name, others in GRAPH.items() if name != "tapc"})


def test_floors_and_loose_modules() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert folders == {name for names in FLOORS for name in names}
    assert len(FLOORS) <= MOST_FLOORS
    assert len(list(ROOT.glob("*.py"))) <= MOST_LOOSE


def test_files_are_short() -> None:
    assert not [name for name, code in CODE.items() if len(code.splitlines()) > MOST_LINES]


def test_the_checks_find_what_they_look_for() -> None:
    code = "import tapc.flow.build\ndef f():\n    from tapc import cli\nif True:\n    from tapc.base import tool, x\n"
    found = set(imports(code))
    assert found == {"tapc.flow.build", "tapc.cli", "tapc.base.tool", "tapc.base"}
    assert upwards("tapc.lower.plan", found) == ["tapc.cli", "tapc.flow.build"]
    assert upwards("tapc.lower.plan", {"tapc.quantize.walk"}) == ["tapc.quantize.walk"]
    assert forms({"tapc", "tapc.kernels.conv", "tapc.kernels.dsp.conv", "tapc.kernels.mve"}) == [
        "tapc.kernels.dsp.conv",
        "tapc.kernels.mve",
    ]
    code = (
        'if spec.mode == "float":\n    x = "fixed"\nif f.mode in ("fixed", y):\n    match f:\n        case "float":\n'
    )
    assert compared_modes(f'{code}            z = x == "other"\n') == [1, 3, 5]
    code = 'import tapc.operators\nfrom tapc.operators.pool import Pool\nx = node.op_type in ("Softmax", "other")\n'
    assert named_operators(code) == ["Softmax", "tapc.operators.pool"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []
    code = "from tapc.device import device_for, halves\nfrom tapc.device.qemu import QemuDevice\nx = target.qemu\n"
    assert of_one_device("tapc.flow.build", code) == ["qemu", "tapc.device.halves", "tapc.device.qemu"]
    assert of_one_device("tapc.firmware.build", "x = target.qemu\n") == []
    assert of_one_device("tapc.device.qemu", code) == []
