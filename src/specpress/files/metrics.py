"""The version of the metrics files and of the archives that hold them."""

SCHEMA = 2  # 2: duels; 1: whole generations in turn
