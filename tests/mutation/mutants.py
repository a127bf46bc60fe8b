"""Mutants of the money path: one small change each, made by cosmic-ray and by `RemoveStatement`."""

import ast
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator

#: Where a wrong line costs money. A folder stands for all of its modules.
MONEY_PATH = (
    "schemas/money.py",
    "streams/checks.py",
    "streams/decode.py",
    "streams/mapping/documents.py",
    "streams/pipeline.py",
    "streams/dedupe.py",
    "streams/dead_letters/audit.py",
    "ops/reconcile",
)


class RemoveStatement(Operator):
    """Replaces a statement by `pass`, which is what a forgotten line amounts to."""

    def mutation_positions(self, node):
        """Yield the statement's position, unless it is a docstring, an import or does nothing anyway."""
        if node.type == "simple_stmt" and node.children[0].type not in _IDLE:
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node, index):
        """Return the node with `pass` in its place."""
        statement = node.children[0]
        node.children[0] = _pass_after(statement.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls):
        """Return an example, as cosmic-ray asks of its operators."""
        return (Example("x = 1\n", "pass\n"),)


_IDLE = {"string", "strings", "import_name", "import_from", "global_stmt", "nonlocal_stmt", "operator", "keyword"}


def _pass_after(prefix):
    leaf = get_ast("pass\n").children[0].children[0]
    leaf.prefix = prefix
    return leaf


class _OwnOperators:
    """What cosmic-ray calls a provider of operators."""

    def __iter__(self):
        return iter(("RemoveStatement",))

    def __getitem__(self, name):
        return {"RemoveStatement": RemoveStatement}[name]


cosmic_ray.plugins.OPERATOR_PROVIDERS["tillstream"] = _OwnOperators()


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to one module: the `occurrence`-th place at which the operator finds something to change."""

    module: str
    operator: str
    occurrence: int
    first_line: int
    last_line: int

    @property
    def place(self) -> tuple[str, int, int, str]:
        """The place and the kind of change. One `+` can become ten other operators: all of them are one place."""
        return self.module, self.first_line, self.last_line, self.operator.split("_")[0]

    def apply(self, root: Path) -> tuple[str, str]:
        """Return the module's code before and after the change."""
        code = (root / self.module).read_text(encoding="utf-8")
        mutated = mutate_code(code, cosmic_ray.plugins.get_operator(self.operator)(), self.occurrence)
        assert mutated is not None, f"{self} changes nothing"
        return code, mutated


def modules(root: Path, only: Sequence[str] = ()) -> list[str]:
    """Return the modules of the money path, or those `only` names, relative to `root`."""
    found: list[str] = []
    for name in only or MONEY_PATH:
        path = root / name
        if not path.exists():
            raise FileNotFoundError(f"There is no {name}. Correct MONEY_PATH in tests/mutation/mutants.py.")
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found += [str(file.relative_to(root)) for file in files]
    return found


def mutants_of(root: Path, module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, without those that change a type annotation alone."""
    code = (root / module).read_text(encoding="utf-8")
    nodes = list(ast_nodes(get_ast(code)))
    annotated = _annotations(code)
    for operator in cosmic_ray.plugins.operator_names():
        kind = cosmic_ray.plugins.get_operator(operator)
        if kind.arguments():
            continue  # these want names of variables
        positions = (position for node in nodes for position in kind().mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start and end <= last for first, last in annotated):
                yield Mutant(module, operator, occurrence, start[0], end[0])


def sample(root: Path, mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """Draw `count` places, each with one of its mutants, so that an operator with many substitutes counts once.

    Mutants that are not valid Python, as of the star in `f(*args)`, are not drawn: any test would notice them.
    """
    places: dict[tuple[str, int, int, str], list[Mutant]] = {}
    for mutant in mutants:
        places.setdefault(mutant.place, []).append(mutant)
    draw = random.Random(seed)
    order = draw.sample(sorted(places), len(places))
    chosen = (draw.choice(places[place]) for place in order)
    return list(islice((mutant for mutant in chosen if _is_python(mutant.apply(root)[1])), count))


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def _annotations(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where the type annotations stand: changing one changes nothing, or stops the import."""
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0)) for node in found
    ]
