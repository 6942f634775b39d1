"""`python -m bertsnr_tools`: the same as `bertsnr`."""

from .cli import main

main()
