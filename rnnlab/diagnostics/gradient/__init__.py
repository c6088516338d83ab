"""Instruments of the gradient: its flow, the matrix of contributions, truncation."""
