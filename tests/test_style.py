"""Size limits and wording (style of the project): `python tests/test_style.py` prints a table of violations."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("bertsnr_tools", "tests", "benchmarks", "workflow", "man", "test_data", "setup.py")
PROSE = ("bertsnr_tools", "benchmarks", "workflow", "man", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
MAX_COLUMNS, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_MODULE_LINES = 120, 60, 8, 400

NATURAL, HEIGHT = r"\bnatural\b(?! log)", r"\bheights?\b"
PLACE = r"(?<!in\s)(?<!one\s)(?<!decimal\s)\bplaces?\b(?! of)"
# regular expression -> what to write instead
PATTERNS = {
    r"\b(is|are) no \w": "is not a ...",
    r"\bneeded (is|are)\b": "expected ...",
    r"(^|[.;:#\"] )(Written|Scanned|Read|Printed|Given|Drawn|Made|Kept|Called|Counted|Compared) (is|are)\b": "active",
    r"\b(not )?to be had\b": "available",
    r"\banew\b": "again, from scratch",
    r"\bshares? of\b": "fraction of",
    NATURAL: "genomic background ...",
    r"\bholds\b": "contains",
    PLACE: "position",
    r"\bso (many|much) \w": "the number",
    r"\bof now\b": "current",
    r"\bfolders?\b": "directory",
    r"\bpictures?\b": "figure",
    r"\btalk\b": "logging",
    r"\bas of [`\w]": "see",
    r"\bthat of\b|\bthose of\b": "repeat the noun",
    HEIGHT: "call level",
    r"\blibrary for AMX\b": "AMX kernel",
    r"\b(has|have) met\b": "were trained with",
    r"\bmodels? (that )?(know|say|see)s?\b": "the fact itself",
    r"\broom\b(?! for)": "scratch buffer",
    r"\blean\b": "inference encoder",
    r"\bturned\b": "reverse-complemented, rotated",
    r"\bprocessors?\b(?! time)": "CPU",
    r"\bwhole or not\b": "written atomically",
    r"\btold\b": "given",
    r"\bone after the other\b": "in order, concatenated",
    r"\bsay(s|ing)? (what|so|nothing)\b": "state",
    r"\b(is|are) not there\b": "does not exist",
    r"\bbehind (it|them)\b": "after",
    r"\bwhat (it|they) (has|have|holds?|knows?)\b": "name it",
}

# (file, pattern or limit) -> reason
EXCEPTIONS = {
    ("CHANGELOG.md", NATURAL): "old name of an option",
    ("bertsnr_tools/cli/models.py", NATURAL): "field of model files",
    ("bertsnr_tools/cli/options.py", NATURAL): "old name of an option",
    ("bertsnr_tools/predict/significance.py", NATURAL): "field of model files",
    ("bertsnr_tools/sequence/background.py", NATURAL): "prefix of record names and part of the random key",
    ("bertsnr_tools/models/baselines.py", PLACE): "name of weights in model files",
    ("bertsnr_tools/plots/attention.html", HEIGHT): "height on the screen",
    ("bertsnr_tools/plots/report.html", HEIGHT): "height on the screen",
    ("bertsnr_tools/models/kernels/triton_encoder.py", "parameters"): "GPU kernels: pointers and sizes are parameters",
}


class Finding(NamedTuple):
    """One violation: where, what, and the text or size."""

    path: str
    line: int
    rule: str
    detail: str


def files(roots: tuple[str, ...], *endings: str) -> Iterator[Path]:
    """Text files of the given directories and files, without hidden ones and this module."""
    for root in roots:
        path = ROOT / root
        for file in sorted(path.rglob("*")) if path.is_dir() else [path] * path.exists():
            if file.suffix in endings and file != Path(__file__).resolve():
                yield file


def long_lines() -> Iterator[Finding]:
    for file in files(CODE, ".py", ".c", ".h", ".sh"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if len(line) > MAX_COLUMNS:
                yield Finding(str(file.relative_to(ROOT)), number, "columns", str(len(line)))


def is_click_callback(function: ast.AST) -> bool:
    return any("click." in ast.unparse(decorator) for decorator in getattr(function, "decorator_list", ()))


def large_functions() -> Iterator[Finding]:
    """Functions with too many lines (a callback's parameters do not count) or parameters (callbacks aside)."""
    for file in files(CODE, ".py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            callback = is_click_callback(node)
            first = node.body[0].lineno if callback else node.lineno
            lines = (node.end_lineno or first) - first + 1
            arguments = node.args
            parameters = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
            path = str(file.relative_to(ROOT))
            if lines > MAX_FUNCTION_LINES:
                yield Finding(path, node.lineno, "function lines", f"{node.name}: {lines}")
            if parameters > MAX_PARAMETERS and not callback:
                yield Finding(path, node.lineno, "parameters", f"{node.name}: {parameters}")


def large_modules() -> Iterator[Finding]:
    for file in files(("bertsnr_tools",), ".py", ".c", ".h"):
        lines = len(file.read_text().splitlines())
        if lines > MAX_MODULE_LINES:
            yield Finding(str(file.relative_to(ROOT)), 1, "module lines", str(lines))


def wording() -> Iterator[Finding]:
    """Patterns to avoid, also across line breaks and comment marks."""
    compiled = {pattern: re.compile(pattern.replace(" ", r"[\s*#\"]+"), re.M) for pattern in PATTERNS}
    for file in files(PROSE, ".py", ".c", ".h", ".sh", ".html", ".1", ".md"):
        text = file.read_text()
        for pattern, expression in compiled.items():
            for match in expression.finditer(text):
                number = text.count("\n", 0, match.start()) + 1
                yield Finding(str(file.relative_to(ROOT)), number, pattern, text.splitlines()[number - 1].strip()[:100])


CHECKS = (long_lines, large_functions, large_modules, wording)


def findings() -> list[Finding]:
    found = [finding for check in CHECKS for finding in check()]
    return [finding for finding in found if (finding.path, finding.rule) not in EXCEPTIONS]


@pytest.mark.parametrize("check", CHECKS)
def test_style(check):
    found = [finding for finding in check() if (finding.path, finding.rule) not in EXCEPTIONS]
    assert not found, "\n".join(f"{path}:{line}: {rule}: {detail}" for path, line, rule, detail in found)


def test_exceptions_are_needed():
    found = {(finding.path, finding.rule) for check in CHECKS for finding in check()}
    assert set(EXCEPTIONS) <= found


def test_patterns_find_what_they_should():
    for text in ("is no model", "Written is BED6", "a folder", "needed is 0", "that of"):
        assert any(re.search(pattern, text) for pattern in PATTERNS), text


def main() -> None:
    found = findings()
    for finding in found if "-v" in sys.argv else ():
        print(f"{finding.path}:{finding.line}: {finding.rule}: {finding.detail}")
    limits = ("columns", "function lines", "parameters", "module lines")
    for rule in (*limits, *PATTERNS):
        print(f"{sum(finding.rule == rule for finding in found):5d}  {rule}")
    print(f"{len(found):5d}  in all")


if __name__ == "__main__":
    main()
