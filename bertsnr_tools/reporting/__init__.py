"""The content of a report of called sites: their columns, motifs, and positions within regions."""
