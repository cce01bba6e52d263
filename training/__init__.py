"""A training run: settings and a platform in, a run directory out.

command_line.py turns flags into settings, prepare.py checks everything that can go wrong before
anything is written, trainer.py runs the epochs with the callbacks of callbacks.py, records.py
writes what the run is, screen.py shows it on the terminal, and run.py puts them together.
"""
