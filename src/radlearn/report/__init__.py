"""The report: one self-contained page about one or several runs, with tables for papers beside it."""
