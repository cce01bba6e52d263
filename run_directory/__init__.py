"""The run directory: what a run leaves behind, and how it is read again.

record.py reads and writes run.json (what the run was), table.py loss+perf_<platform>.txt (what it
did, one row an epoch), checkpoints.py the weights, curves.py the picture. settings.py is what a
run is asked for. Only checkpoints.py needs TensorFlow.
"""
