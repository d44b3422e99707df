"""recjax: sample expansion for recommenders, in JAX.

Axis letters used in every docstring: M members (seeds), B rows, T time, K hidden states, V items of
a table, D width, H heads, A actions, G gap bins, N neighbours.
"""

__version__ = "0.1.0"
