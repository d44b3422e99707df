"""The search over a config's space: its settings, halving, the study file, what comes out of it.

Lives here: what a space is (`space`), who goes on at a rung (`halving`), Optuna's study file
(`study`, the only file that imports it), and the chosen settings as a config (`chosen`) and as a
table (`table`). Not here: how a trial trains, which is `recjax.stages.tune`.
"""
