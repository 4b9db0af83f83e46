"""Runs the same programs natively, under Doppel and under QEMU's TCG, and compares their times."""
