"""The version of the metrics files and of the archives that hold them."""

SCHEMA = 3  # 3: acceptance in training by whole laws; 2: duels; 1: whole generations in turn
