"""Nothing a test draws or waits for depends on chance, on the machine's speed or on an earlier run."""

from hypothesis import HealthCheck, settings

# The examples follow from the test itself, so a run finds what every other run finds; how long one takes is not judged.
settings.register_profile(
    "specpress", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("specpress")
