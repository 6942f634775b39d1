"""What setup.cfg cannot express: the launchers, and the optional AMX kernel, which speeds up CPUs that have AMX."""

from glob import glob

from setuptools import Extension, setup

KERNEL = "bertsnr_tools/models/kernels/amx"

setup(
    scripts=sorted(glob("bin/*")),
    ext_modules=[
        Extension(
            "bertsnr_tools.models.kernels.amx._amx",
            sources=[f"{KERNEL}/encoder.c"],
            depends=[f"{KERNEL}/{name}.h" for name in ("kernel", "tiles", "vector_math")],
            extra_compile_args=["-O3"],
            libraries=["m"],
            optional=True,
        )
    ],
)
