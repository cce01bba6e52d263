"""Every regular expression of the project takes time linear in a text, whatever that holds.

The attacks follow from an expression itself: what comes before each of its repetitions, then what
is repeated, often, and then a sign with which nothing matches.
"""

import ast
import re
import time
import warnings

import pytest
from conftest import CHECKOUT

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import sre_constants
    import sre_parse

# How an expression is used, and the function that is measured for it.
USES = {
    "match": "match", "fullmatch": "fullmatch", "search": "search", "findall": "findall",
    "finditer": "findall", "sub": "findall", "subn": "findall", "split": "findall",
}  # fmt: skip
PACKAGES = (
    "sparsenet", "common", "run_directory", "platforms", "training", "evaluation", "comparison",
    "scripts",
)  # fmt: skip
LONG = 6000  # letters: quadratic expressions take over 50 ms of these
SLOW = 0.05  # seconds; linear ones take about 1 ms


def modules():
    yield from CHECKOUT.glob("*.py")
    for package in PACKAGES:
        yield from (CHECKOUT / package).rglob("*.py")


def constants_of(tree):
    """Return the texts that a module gives names to, by these."""
    return {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def texts_of(node, names):
    """Return the expressions that an argument stands for: a text, a sum of texts, or a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.Str):  # Python 3.7
        return [node.s]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in texts_of(node.left, names) for b in texts_of(node.right, names)]
    if isinstance(node, ast.Name) and isinstance(names.get(node.id), str):
        return [names[node.id]]
    return []


def uses_of_names(trees):
    """Return by which functions an expression is used that has a name, by that name."""
    found = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in USES:
                name = getattr(node.value, "attr", getattr(node.value, "id", None))
                found.setdefault(name, set()).add(USES[node.attr])
    return found


def expressions():
    """Yield (module, line, expression, flags, uses) of all that are compiled or used."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(modules())}
    by_name = uses_of_names(trees.values())
    for path, tree in trees.items():
        names = constants_of(tree)
        assigned = {
            id(node.value): node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("compile", *USES)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
            ):
                uses = {USES.get(node.func.attr)}
                if node.func.attr == "compile":
                    uses = by_name.get(assigned.get(id(node))) or {"findall", "fullmatch"}
                flags = re.I if "attr='I'" in ast.dump(node) else 0
                flags |= re.M if "MULTILINE" in ast.dump(node) else 0
                for text in texts_of(node.args[0], names):
                    yield path.name, node.lineno, text, flags, tuple(sorted(uses))


def of_tables():
    """Yield the expressions that stand in tables and not in calls."""
    from comparison import records
    from run_directory import checkpoints
    from sparsenet import official_pytorch

    for name, table, use in (
        ("records.py", [pattern for pattern, _, _ in records.GROUPS], "match"),
        ("checkpoints.py", [pattern for pattern, _ in checkpoints.SCOPES], "findall"),
        ("official_pytorch.py", [pattern for pattern, _ in official_pytorch.SCOPES], "fullmatch"),
    ):
        for pattern in table:
            yield name, 0, pattern, 0, (use,)


def letter_of(kind, value):
    """Return a letter that a class of letters, or its opposite, matches."""
    candidates = "a1 _/-.#=Z9\t\n\"'%:,;()é"
    pattern = re.compile(one_item(kind, value))
    return next((each for each in candidates if pattern.match(each)), "a")


def one_item(kind, value):
    """Return the expression of a class of letters."""
    names = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w",
             "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_NOT_SPACE": r"\S",
             "CATEGORY_NOT_WORD": r"\W"}  # fmt: skip
    found = []
    for each, inner in value if str(kind) == "IN" else [(kind, value)]:
        if str(each) == "NEGATE":
            found.append("^")
        elif str(each) == "CATEGORY":
            found.append(names[str(inner)])
        elif str(each) == "RANGE":
            found.append("{}-{}".format(*(re.escape(chr(code)) for code in inner)))
        elif str(each) == "NOT_LITERAL":
            found.append("^" + re.escape(chr(inner)))
        elif str(each) == "LITERAL":
            found.append(re.escape(chr(inner)))
    return "[{}]".format("".join(found))


def attacks_on(parsed, before, found):
    """Return a text that an expression matches; add (before, what is repeated) to `found`."""
    text = ""
    for kind, value in parsed:
        name = str(kind)
        if name == "LITERAL":
            text += chr(value)
        elif name == "ANY":
            text += "a"
        elif name in ("IN", "NOT_LITERAL"):
            text += letter_of(kind, value)
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = value
            body = attacks_on(inner, before + text, found)
            if most is sre_constants.MAXREPEAT or most > 100:
                found.append((before + text, body))
            text += body * max(1, least)
        elif name == "SUBPATTERN":
            text += attacks_on(value[-1], before + text, found)
        elif name == "BRANCH":
            samples = [attacks_on(each, before + text, found) for each in value[1]]
            text += samples[0]
    return text


def texts_against(pattern):
    parsed = sre_parse.parse(pattern)
    found = []
    whole = attacks_on(parsed, "", found)
    found += [("", each) for each in ("a", "1", " ", "#", ".", "\n", "_", "/", whole, whole[:-1])]
    for before, body in dict.fromkeys(found):
        if body:
            yield before + body * (LONG // len(body)) + "\0"
            yield body * (LONG // len(body)) + before


def seconds(function, text):
    start = time.process_time()  # other work beside this takes none of it
    function(text)
    return time.process_time() - start


def is_slow(function, text):
    """Return whether a text takes long, and twice of it much longer than twice as long."""
    if seconds(function, text) < SLOW:
        return False
    once = min(seconds(function, text) for _ in range(3))
    return once >= SLOW and min(seconds(function, text + text) for _ in range(3)) > 3 * once


ALL = [*expressions(), *of_tables()]


def test_expressions_are_found():
    assert len(ALL) > 60
    assert {"curve_reading.py", "text_form.py", "sources.py", "checkpoints.py"} <= {
        name for name, *_ in ALL
    }


@pytest.mark.parametrize("pattern", [r"(a|a)*b", r"\d+\.?\d*", r"\s*(?:#.*\s*)*(\w+)\s*[:{<]"])
def test_what_is_not_linear_is_found(pattern):
    """The last two were the project's own."""
    function = re.compile(pattern).fullmatch
    lengths = [20, 24] if "(" in pattern else [1500, 6000]
    fewest, most = (
        max(seconds(function, text[:length] + "\0") for text in texts_against(pattern))
        for length in lengths
    )
    assert most > 4 * fewest


@pytest.mark.parametrize("pattern, flags, uses", sorted({each[2:] for each in ALL}))
def test_an_expression_is_linear(pattern, flags, uses):
    compiled = re.compile(pattern, flags)
    where = [each[:2] for each in ALL if each[2] == pattern]
    for text in texts_against(pattern):
        for use in uses:
            assert not is_slow(getattr(compiled, use), text), (where, use, text[:60])
