"""Track hubs for genome browsers."""
