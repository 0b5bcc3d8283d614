from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def paper_style():
    """Figures as the paper draws them, closed afterwards."""
    plt.switch_backend("agg")
    with plt.style.context(["default", ROOT / "paper/style.mplstyle"]):
        yield
    plt.close("all")
