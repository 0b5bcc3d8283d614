"""The sections of the GPU check (../gpu_check.py): what each measures, and how. Read first: bench.py."""
