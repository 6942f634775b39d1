"""Bytes and formats: files, FASTA, intervals, motif files and browser tracks."""
