"""The import directions of the package, read from its source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bertsnr_tools"

MAY_IMPORT = {
    "errors": set(),
    "log": set(),
    "streams": {"errors"},
    "kmers": set(),
    "metrics": set(),
    "scores": {"kmers"},
    "regions": {"errors", "streams"},
    "fasta": {"errors", "streams", "regions"},
    "shuffle": {"fasta", "kmers"},
    "windows": {"errors", "fasta", "kmers", "regions"},
    "motifs": {"errors", "fasta", "kmers", "regions", "scores", "streams"},
    "background": {"fasta", "kmers", "regions"},
    "comparison": {"errors", "metrics", "motifs"},
    "tracks": {"errors", "regions", "streams"},
    "page": set(),
    "networks": set(),
    "amx": {"log"},
    "lean": set(),
    "matching": {"errors", "kmers", "log", "model", "motifs", "significance"},
    "significance": {"errors", "kmers", "model", "scores", "scoring", "windows"},
    "plots": {"comparison", "errors", "metrics", "motifs", "streams"},
    "model": {"", "amx", "errors", "kmers", "lean", "networks", "streams"},
    "scoring": {"errors", "kmers", "log", "model"},
    "prefilter": {"kmers", "log", "model", "networks", "scores", "scoring", "windows"},
    "pretrained": {"errors", "kmers", "model", "streams"},
    "pretraining": {"checkpoint", "errors", "fasta", "kmers", "log", "model", "pretrained", "streams", "training", "windows"},
    "checkpoint": {"errors", "log", "model", "streams", "windows"},
    "training": {"checkpoint", "pretrained", "errors", "kmers", "log", "metrics", "model", "scoring", "shuffle", "significance", "streams", "windows"},
    "inference": {"errors", "fasta", "kmers", "model", "prefilter", "regions", "scores", "scoring"},
}
ONLY_IN = {
    "torch": {"amx", "checkpoint", "lean", "matching", "model", "networks", "pretrained", "prefilter", "pretraining", "scoring", "training", "cli.train", "cli.pretrain", "cli.predict", "cli.evaluate", "cli.motifs", "cli.attn"},
    "transformers": {"model", "pretrained", "pretraining"},
    "pysam": {"fasta", "streams"},  # streams: bgzip output
    "matplotlib": {"plots"},
    "logomaker": {"plots"},
    "lightmotif": {"matching"},
    "memelite": {"comparison"},
    "pyjaspar": {"comparison"},
    "pyBigWig": {"tracks"},
    "click": {"cli", "cli.options", "cli.windows", "cli.shuffle", "cli.train", "cli.pretrain", "cli.predict", "cli.evaluate", "cli.motifs", "cli.attn", "cli.models"},
    "rich": {"log"},
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(name, path):
    """Everything a module imports, at the top or inside a function: our own modules by their name here, others by package."""
    inside = name.startswith("cli")
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = "cli" if inside and node.level == 1 else ""
            if node.module:
                own.add(f"{base}.{node.module}".strip("."))
            else:
                own |= {f"{base}.{alias.name}".strip(".") if not alias.name.startswith("__") else base for alias in node.names}
    return own, others


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_import_directions(name, path):
    own, others = imports(name, path)
    if name.startswith("cli"):
        assert own <= {*MAY_IMPORT, "", "cli", "cli.options"}
    else:
        assert own <= MAY_IMPORT.get(name, set()), f"{name} imports {own}"
    for package, allowed in ONLY_IN.items():
        assert package not in others or name in allowed, f"{name} imports {package}"


def test_every_module_is_known():
    assert {name for name, _ in modules() if name and not name.startswith("cli")} == set(MAY_IMPORT)
