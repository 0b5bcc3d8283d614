"""The parts of a generation that are timed by themselves, by the names that metrics files give them."""

PREFILL = "prefill"  # once
COMPRESSION, DRAFTING, VERIFICATION = "compression", "drafting", "verification"  # of a round, in this order
PRESSED = "pressed"  # a step on a compressed cache, by itself
