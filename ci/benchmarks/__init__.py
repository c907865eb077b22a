"""What `ci/bench` runs: the same work in nnbackend, NumPy, PyTorch, JAX and scikit-learn, timed side by side.

A contender is a function that builds its work and returns two others: one that does a step, and one that returns
what came of the steps so far, as numbers to compare before anything is timed.
"""
