"""What setup.cfg cannot express: the launchers, and the optional kernels for CPUs with AMX or AVX2."""

from glob import glob

from setuptools import Extension, setup

KERNELS = "bertsnr_tools/models/kernels"


def kernel(name, sources, headers):
    """A kernel of the compact encoder."""
    return Extension(
        f"bertsnr_tools.models.kernels.{name}._{name}",
        sources=[f"{KERNELS}/{name}/{source}.c" for source in sources],
        depends=[f"{KERNELS}/polynomials.h", *(f"{KERNELS}/{name}/{header}.h" for header in headers)],
        extra_compile_args=["-O3"],
        libraries=["m"],
        optional=True,
    )


setup(
    scripts=sorted(glob("bin/*")),
    ext_modules=[
        kernel("amx", ["encoder"], ["kernel", "tiles", "vector_math"]),
        kernel("avx", ["avx2", "avx_vnni", "avx512", "vnni"], ["encoder", "kernel", "vector_math"]),
    ],
)
