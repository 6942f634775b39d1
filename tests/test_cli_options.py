"""The options that commands share."""

import click
import pytest
import torch
from click.testing import CliRunner

from bertsnr_tools.cli import options


@options.command
@click.option("--background-ratio", type=float)
@options.runtime(several_devices=True)
def scan(background_ratio, runtime):
    print(background_ratio, runtime)


@options.command
@click.option("--batch-size", type=int, default=32)
@options.runtime(training=True)
def fit(batch_size, runtime):
    print(batch_size, runtime)


def call(command, line):
    return CliRunner().invoke(command, line.split())


@pytest.mark.parametrize("line", ["--natural 2", "--natural=2"])
def test_deprecated_names_work_and_warn(line):
    result = call(scan, line)
    assert result.exit_code == 0 and result.stdout.startswith("2.0 ")
    assert result.stderr == "scan: --natural is deprecated; use --background-ratio\n"
    assert "--natural" not in call(scan, "--help").stdout


def test_deprecated_names_are_unknown_where_the_new_ones_are():
    assert call(fit, "--natural 2").exit_code == 2


def test_runtime_options():
    shown = call(scan, "--device cuda:0,cuda:1 --precision fp16 -@ 3 --batch-size 7").stdout
    assert shown == f"None {options.RuntimeOptions('cuda:0,cuda:1', 'fp16', 3, 7)}\n"
    assert call(fit, "--batch-size 7").stdout == f"7 {options.RuntimeOptions('auto', 'auto', None, training=True)}\n"
    assert call(fit, "--precision fp16").exit_code == 2
    assert call(fit, "--device cuda:0,cuda:1").exit_code == 2


def test_building_a_runtime_sets_the_threads():
    before = torch.get_num_threads()
    try:
        runtime = options.RuntimeOptions("cpu", "fp32", 1, 8).build()
        assert torch.get_num_threads() == 1
        assert (runtime.device.type, runtime.precision, runtime.batch_size) == ("cpu", "fp32", 8)
    finally:
        torch.set_num_threads(before)
