"""What a user would notice, measured against what a user would pick instead.

measuring.py runs the arms of a comparison in turn, round after round, and reports them. Every
other module is one benchmark: its flags, its cases and how an arm of it is measured. All of them
are started by scripts/benchmark.py; what was found is in results/performance.md.
"""
