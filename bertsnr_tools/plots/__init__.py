"""Figures: logos, curves, heat maps, attention profiles, and the attention page."""
