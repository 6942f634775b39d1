"""Man pages, launchers and metadata agree with the commands and the version."""

import os
import re
import shutil
import subprocess
import sys

import click
import pytest

from bertsnr_tools import __version__
from bertsnr_tools.cli import COMMANDS, bertsnr, command
from conftest import ROOT


def plain(text):
    return re.sub(r"\\f[BIRP]|\\&", "", text).replace("\\-", "-").replace("\\(aq", "'").replace("\\(bu", "*")


def page_options(name):
    """The entries of the OPTIONS section: {('-o', '--output'): 'FILE', …}."""
    text = plain((ROOT / "man" / f"{name}.1").read_text())
    section = re.search(r"^\.SH OPTIONS\n(.*?)(?=^\.SH )", text, re.M | re.S)[1]
    entries = {}
    for line in re.findall(r"^\.TP\n(?:\.BR? )?(.+)$", section, re.M):
        flags = tuple(re.findall(r"(?<![\w-])--?[\w@-]+", line))
        entries[flags] = re.sub(r"(?<![\w-])--?[\w@-]+,?", "", line).strip().strip('"')
    return entries


def help_options(name):
    entries = {}
    context = command(name).make_context(name, [], resilient_parsing=True)
    for option in command(name).get_params(context):
        if isinstance(option, click.Option):
            metavar = "" if option.is_flag else option.make_metavar(context).strip("[]")
            entries[tuple(option.opts)] = metavar
    return entries


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_page_lists_the_options_of_its_command(name):
    assert page_options(f"bertsnr-{name}") == help_options(name)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_page_has_the_purpose_and_all_sections(name):
    text = plain((ROOT / "man" / f"bertsnr-{name}.1").read_text())
    assert f"bertsnr-{name} - {COMMANDS[name]}" in text
    assert f'"bertsnr_tools {__version__}"' in text
    for section in ("SYNOPSIS", "DESCRIPTION", "OPTIONS", "OUTPUT", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
        assert f".SH {section}\n" in text or f'.SH "{section}"\n' in text


def test_overview_lists_every_command():
    text = plain((ROOT / "man" / "bertsnr.1").read_text())
    for name, purpose in COMMANDS.items():
        assert f"bertsnr-{name}" in text and purpose in text
    assert set(bertsnr.list_commands(None)) == set(COMMANDS)


@pytest.mark.skipif(not shutil.which("man"), reason="needs man")
@pytest.mark.parametrize("name", ["bertsnr", *(f"bertsnr-{name}" for name in COMMANDS)])
def test_pages_render_without_warnings(name):
    done = subprocess.run(
        ["man", "--warnings", "-l", ROOT / "man" / f"{name}.1"],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANWIDTH": "90"},
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_every_command_has_a_launcher():
    names = {"bertsnr", *(f"bertsnr-{name}" for name in COMMANDS)}
    launchers = list((ROOT / "bin").iterdir())
    assert {path.name for path in launchers} == names
    assert len({path.read_text() for path in launchers}) == 1 and all(path.stat().st_mode & 0o111 for path in launchers)


def test_an_interrupted_start_is_one_line(tmp_path):
    """As by Ctrl-C while modules are imported."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    launcher = [sys.executable, ROOT / "bin" / "bertsnr-windows"]
    done = subprocess.run(launcher, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "bertsnr-windows: interrupted\n")


def test_metadata_has_the_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_python_m_is_bertsnr():
    done = subprocess.run([sys.executable, "-m", "bertsnr_tools", "-V"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"bertsnr_tools {__version__}\n")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_launchers(launch, name):
    alone, through = launch(name, "--help"), launch("", name, "-h")
    assert alone.status == through.status == 0
    for outcome in (alone, through):
        assert outcome.out.startswith(f"Usage: bertsnr{'-' if outcome is alone else ' '}{name} [OPTIONS]")
    assert alone.out.splitlines()[1:] == through.out.splitlines()[1:]
    assert launch(name, "-V").out == f"bertsnr_tools {__version__}\n"
