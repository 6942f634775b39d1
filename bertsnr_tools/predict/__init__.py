"""Scans: from sequence and models to called sites and base scores.

regions -> chunks (`chunks`) -> windows (`tiling`) -> prefilter (`prefilter`) -> base scores -> sites (`calling`,
`thresholds`) -> p-values (`significance`) -> files (`writers`). `scan.Scanner` runs these steps.
"""
