"""motifs"""
