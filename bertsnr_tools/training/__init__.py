"""Training: from labelled windows to a model (`run`), and pretraining of encoders (`pretrain`)."""
