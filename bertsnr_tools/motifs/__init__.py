"""Motifs: their instances in called sequence (`sources`), their discovery, and their comparison with known motifs."""
