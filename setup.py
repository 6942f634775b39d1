"""What setup.cfg cannot say: the library of `bertsnr_tools.amx`, without which the package works too, but slower."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("bertsnr_tools.models.kernels.amx._amx", ["bertsnr_tools/models/kernels/amx/amx.c"], extra_compile_args=["-O3"], libraries=["m"], optional=True)])
