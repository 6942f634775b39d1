"""Models and how they run: networks, PWMs, model files, devices, batches."""
