"""What the design promises about the source text, checked over its syntax trees."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import attacks
import defenses
from attacks.attack import ActivationAttack
from attacks.on_outputs import OUTPUT_ATTACKS
from attacks.output_attack import OutputAttack
from attacks.reading import Reading
from attacks.readings import READINGS
from defenses.fitting import FITTING_DEFENSES
from defenses.fitting_defense import FittingDefense
from defenses.on_outputs import OUTPUT_DEFENSES
from defenses.output_defense import OutputDefense
from parties import protocols

ROOT = Path(__file__).parent.parent
FLOORS = {"split_models": 1, "defenses": 2, "parties": 3, "attacks": 4, "experiments": 5}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in FLOORS
    for path in sorted((ROOT / package).rglob("*.py"))
    if not path.name.endswith("_pb2.py")
}
TREES = {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in FILES.items()}
LONGEST_FUNCTION, LONGEST_FILE = 50, 300

NO_PICKLE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SAFE_LOADS = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
TORCH_DRAWS_WITHOUT_GENERATOR = {"rand_like", "randn_like", "randint_like"}
DRAWS_IN_PLACE = {
    "normal_",
    "uniform_",
    "exponential_",
    "bernoulli_",
    "random_",
    "log_normal_",
    "cauchy_",
    "geometric_",
}
NUMPY_GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file may import, also inside functions; for `from a import b` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written from the root"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_imports(module: str, tree: ast.AST) -> list[str]:
    """Imports that point to a floor above, or from the attacks to what an attacker must not see."""
    ours = module.partition(".")[0]
    allowed = {package for package, floor in FLOORS.items() if floor <= FLOORS[ours]}
    if ours == "attacks":
        allowed = {"split_models", "attacks"}
    forbidden = (set(FLOORS) | {"tests"}) - allowed
    return [name for name in imported(tree) if name.partition(".")[0] in forbidden]


def circle(trees: dict[str, ast.AST]) -> list[str]:
    """A circle of modules that import each other, or nothing."""
    graph = {}
    for name, tree in trees.items():
        names = [other for other in imported(tree) if other in trees and other != name]
        # `from a import b` needs the module a.b alone, where there is one
        graph[name] = {o for o in names if not any(longer.startswith(f"{o}.") for longer in names)}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression of names, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (front := dotted(node.value)):
        return f"{front}.{node.attr}"
    return ""


def dangerous(tree: ast.AST) -> list[str]:
    """Calls and imports through which data could run as code."""
    found = [name for name in imported(tree) if name.partition(".")[0] in NO_PICKLE]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func).replace("numpy.", "np.")
        if name in ("eval", "exec", "compile", "__import__"):
            found.append(name)
        if name in SAFE_LOADS:
            option, value = SAFE_LOADS[name]
            given = {k.arg: k.value for k in node.keywords}.get(option)
            if not (isinstance(given, ast.Constant) and given.value is value):
                found.append(f"{name} without {option}={value}")
    return found


def global_randomness(tree: ast.AST) -> list[str]:
    """Draws from, or seeds of, a generator that nobody passed."""
    found = [name for name in imported(tree) if name.partition(".")[0] in ("random", "secrets")]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, last = dotted(node.func), getattr(node.func, "attr", "")
        passed = any(keyword.arg == "generator" for keyword in node.keywords)
        if name in ("torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.cuda.manual_seed_all"):
            found.append(name)
        elif name.startswith("torch.") and (
            last in TORCH_DRAWS_WITHOUT_GENERATOR or (last in TORCH_DRAWS and not passed)
        ):
            found.append(f"{name} without a generator")
        elif last in DRAWS_IN_PLACE and not passed:
            found.append(f".{last} without a generator")
        elif name.startswith(("np.random.", "numpy.random.")) and (
            last not in NUMPY_GENERATORS or (last == "default_rng" and not node.args)
        ):
            found.append(name)
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


CLASSES = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def inherited(cls: ast.ClassDef) -> set[str]:
    """Names of methods that a class only overrides, whose meaning is written at the base class."""
    names = {"forward", "run"}  # what torch's Module and the thread classes mean by them is theirs to say
    for base in cls.bases:
        if parent := CLASSES.get(dotted(base).rpartition(".")[2]):
            names |= {item.name for item in functions(parent) if ast.get_docstring(item)} | inherited(parent)
    return names


def undocumented(tree: ast.Module) -> list[str]:
    """Public functions, classes and methods without a docstring."""
    found = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            known = inherited(node)
            found += [
                f"{node.name}.{item.name}"
                for item in methods
                if not item.name.startswith("_") and not ast.get_docstring(item) and item.name not in known
            ]
    return found


each_file = pytest.mark.parametrize("module", TREES)


@each_file
def test_imports_point_down(module: str) -> None:
    assert not wrong_imports(module, TREES[module])


@each_file
def test_flower_is_imported_in_one_room_alone(module: str) -> None:
    if not module.startswith("parties.flower_app"):
        assert not [name for name in imported(TREES[module]) if name.partition(".")[0] in ("flwr", "ray")]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circle(dict(TREES))


@each_file
def test_no_data_can_run_as_code(module: str) -> None:
    assert not dangerous(TREES[module])


@each_file
def test_randomness_is_passed_around(module: str) -> None:
    if module != "split_models.randomness":
        assert not global_randomness(TREES[module])


@each_file
def test_what_is_public_is_documented(module: str) -> None:
    assert not undocumented(TREES[module])


@each_file
def test_functions_and_files_are_short(module: str) -> None:
    long = [f.name for f in functions(TREES[module]) if (f.end_lineno or 0) - f.lineno >= LONGEST_FUNCTION]
    assert not long, f"longer than {LONGEST_FUNCTION} lines"
    path = FILES.get(module) or FILES[f"{module}.__init__"]
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize(
    "package, base, registry",
    [
        (defenses, defenses.Defense, defenses.DEFENSES),
        (defenses, OutputDefense, OUTPUT_DEFENSES),
        (defenses, FittingDefense, FITTING_DEFENSES),
        (attacks, ActivationAttack, attacks.ATTACKS),
        (attacks, Reading, READINGS),
        (attacks, OutputAttack, OUTPUT_ATTACKS),
        (protocols, protocols.Protocol, protocols.PROTOCOLS),
    ],
    ids=["defenses", "output defenses", "fitting defenses", "attacks", "readings", "output attacks", "protocols"],
)
def test_every_concrete_subclass_is_registered_under_its_name(package, base, registry) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    pending, concrete = [base], set()
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if cls is not base and cls.__module__.startswith(package.__name__) and not inspect.isabstract(cls):
            concrete.add(cls)
    assert concrete == set(registry.values())
    assert all(cls.name == name for name, cls in registry.items())


@pytest.mark.parametrize(
    "module, text",
    [
        ("split_models.x", "from parties.messages import Hello"),
        ("defenses.x", "def f():\n    import attacks.attack"),
        ("attacks.x", "from defenses import make_defense"),
        ("attacks.x", "import parties"),
        ("parties.x", "from experiments import record"),
    ],
)
def test_an_upward_import_is_found(module: str, text: str) -> None:
    assert wrong_imports(module, ast.parse(text))


def test_a_circle_is_found() -> None:
    texts = {"a.b": "from a.c import f", "a.c": "def f():\n    from a import d", "a.d": "import a.b"}
    assert circle({name: ast.parse(text) for name, text in texts.items()})
    texts["a.d"] = "import json"
    assert not circle({name: ast.parse(text) for name, text in texts.items()})


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "from joblib import load",
    ],
)
def test_a_dangerous_call_is_found(text: str) -> None:
    assert dangerous(ast.parse(text))
    assert not dangerous(ast.parse("model.eval()\ntorch.load(path, weights_only=True)"))


@pytest.mark.parametrize(
    "text",
    [
        "torch.manual_seed(0)",
        "import random",
        "np.random.seed(1)",
        "numpy.random.rand(3)",
        "np.random.default_rng()",
        "torch.randn(3)",
        "torch.randn_like(x)",
        "x.normal_()",
    ],
)
def test_global_randomness_is_found(text: str) -> None:
    assert global_randomness(ast.parse(text))
    assert not global_randomness(ast.parse("torch.randn(3, generator=g)\nnp.random.default_rng(seed)\nrng.normal()"))


def test_a_missing_docstring_is_found() -> None:
    text = 'class A:\n    """It."""\n    def f(self): ...\n    def _g(self): ...\ndef h(): ...\ndef _i(): ...'
    assert undocumented(ast.parse(text)) == ["A.f", "h"]
