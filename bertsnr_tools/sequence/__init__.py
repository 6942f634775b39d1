"""Bases as arrays: encoding, shuffles, labelled windows and background windows."""
