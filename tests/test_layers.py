"""The layers of the package, read from its source: a module imports from its own layer and from those below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bertsnr_tools"
RULE = (
    "errors log metrics <- io <- sequence <- models <- predict <- evaluation <- training motifs attention variation"
    " <- reporting <- plots hub <- api cli"
)
LAYERS = [layer.split() for layer in RULE.split(" <- ")]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ONLY_IN = {  # packages that are slow to import, or that not every installation has
    "torch": ("models", "predict", "training", "attention", "api", "cli.options"),
    "transformers": ("models.huggingface", "training.pretrain"),
    "pysam": ("io",),
    "pyBigWig": ("io.bbi",),
    "pyarrow": ("io.parquet",),
    "matplotlib": ("plots",),
    "logomaker": ("plots",),
    "lightmotif": ("models.pwm",),
    "memelite": ("motifs.comparison",),
    "pyjaspar": ("io.jaspar",),
    "click": ("cli",),
    "rich": ("log",),
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").parts, path


def imports(parts, path):
    """All that a module imports, at its top or inside a function: own layers, and other packages."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level])
            target = base + (node.module.split(".") if node.module else [])
            own |= {target[0]} if target else {alias.name for alias in node.names if not alias.name.startswith("__")}
    return own, others


CASES = [
    pytest.param(parts, path, id=".".join(parts))
    for parts, path in modules()
    if len(parts) > 1 or "_" not in parts[0][:2]
]


@pytest.mark.parametrize(("parts", "path"), CASES)
def test_imports_go_down_the_layers(parts, path):
    own, others = imports(parts, path)
    above = {layer for layer in own if LEVEL[layer] > LEVEL[parts[0]]}
    assert not above, f"{RULE}: {'.'.join(parts)} imports {above}"
    name = ".".join(parts)
    for package, places in ONLY_IN.items():
        allowed = any(name == place or name.startswith(f"{place}.") for place in places)
        assert allowed or package not in others, f"{name} imports {package}"


def test_every_module_is_in_a_layer():
    assert {parts[0] for parts, _ in modules() if parts[0] not in ("__init__", "__main__")} == set(LEVEL)


def test_the_rule_can_fail(tmp_path):
    module = tmp_path / "fasta.py"
    module.write_text("def read():\n    from ..models.files import load_model\n    import click\n")
    assert imports(("io", "fasta"), module) == ({"models"}, {"click"})
