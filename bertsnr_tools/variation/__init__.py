"""Variants: which binding sites a change of the sequence creates or destroys.

VCF rows -> changes (`rows`, `haplotypes`) or every substitution of a region (`saturate`) -> sequences of both alleles
(`alleles`) -> base scores (`scoring`) -> sites and their change (`effects`) -> p-values (`nulls`) -> files (`output`).
"""
