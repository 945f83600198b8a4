"""Counting rights and wrongs: running a suite over an engine, records, statistics, tables."""
