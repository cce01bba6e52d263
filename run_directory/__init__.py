"""The run directory: what a run leaves behind, and how it is read again.

record.py reads and writes run.json (what the run is), table.py loss+perf_<platform>.txt (one row
per epoch), curves.py the picture of it, checkpoints.py the weights. settings.py holds what is asked
of a run. Only checkpoints.py needs TensorFlow.
"""
