"""Tasks of retrieval and tracing, generated and hidden in the texts at hand: one class a task.

After RULER (Hsieh et al., 2024, "RULER: What's the Real Context Size of Your Long-Context Language Models?", section
3). The names of a study lead here by `specpress.study.registry.TASKS`. Read first: task.py.
"""
