"""A training run: settings and a platform in, a run directory out.

command_line.py makes settings of flags, prepare.py finds the data and all that may be wrong before
anything is written, trainer.py runs the epochs with callbacks.py around the steps, records.py
writes what the run was, and run.py puts them together.
"""
