"""The HTML report of the tiny study, opened in a browser without a network."""

import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import pytest
import yaml
from test_tiny_study import CONFIG, built  # noqa: F401
from tree import ROOT, Tree

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("report")]  # one study for all of them

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"),
    "--virtual-time-budget=60000",
]

# Opens every entry in turn, as a click on it would, and writes down what is then seen.
VISIT = """
<script>
const pause = () => new Promise(resolve => setTimeout(resolve, 300));
// A busy machine may take longer than a pause over a view or an image; one that is broken stays without a width.
const until = async found => { for (let i = 0; i < 30 && !found(); i++) await pause(); return found(); };
const width = async image => { await image.decode().catch(() => 0); return image.naturalWidth; };
(async () => {
  const seen = {};
  await pause();
  const front = document.querySelector(".front");
  seen.front = {info: front.innerText, top: front.getBoundingClientRect().top,
                image: await width(front.querySelector("img"))};
  for (const category of Object.keys(categories)) {
    app.setView({navbarMode: "menu"});
    await pause();
    app.showCategory(category);
    await pause();
    seen[category] = {info: document.body.innerText};
  }
  for (const [path, entry] of Object.entries(results)) {
    const kind = {"image/svg+xml": "img", "text/html": "html", "application/pdf": "pdf"}[entry.mime_type];
    app.setView({content: kind, contentPath: entry.data_uri, resultPath: path, navbarMode: "resultinfo"});
    await pause();
    const shown = () => [...document.querySelectorAll(".p-3 > img")].find(each => each.src === entry.data_uri);
    const image = kind === "img" ? await until(shown) : null, frame = document.querySelector("iframe");
    seen[path] = {kind: kind, width: image ? await width(image) : 0, frame: frame ? frame.src.length : 0,
                  info: document.body.innerText};
  }
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  outcome.textContent = encodeURIComponent(JSON.stringify(seen));
  document.body.append(outcome);
})();
</script>
"""


@pytest.fixture(scope="module")
def report(built: Tree):  # noqa: F811
    """The report's HTML."""
    built.snakemake("--cores", "1", *CONFIG, "--", "report_pages")
    built.snakemake(
        *CONFIG, "--report", "report.html", "--report-stylesheet", "workflow/report/style.css", "--report-metadata",
        "workflow/report/landing.yaml", "--", "report_pages",
    )  # fmt: skip
    return (built.path / "report.html").read_text(encoding="utf-8")


def opened(page, folder) -> tuple[str, list[str]]:
    """The page as the browser has it after its scripts have run, and what they wrote to the console."""
    if BROWSER is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    console = re.findall(r":CONSOLE:?\(?\d+\)?\] (.*)", done.stderr)
    usual = ("should not be used in production", '"<div class="document"')  # the second: Snakemake logs the first page
    return done.stdout, [line for line in console if not any(known in line for known in usual)]


@pytest.fixture(scope="module")
def visit(report, tmp_path_factory):
    """What is seen on the first page, in each list and under each entry; and the console."""
    start, _, end = report.rpartition("</body>")
    page, console = opened(start + VISIT + end, tmp_path_factory.mktemp("browser"))
    return json.loads(unquote(re.search(r'<pre id="outcome">(.*?)</pre>', page)[1])), console


def test_the_report_opens_on_what_was_found(visit):
    front = visit[0]["front"]
    headings = ["The original study's claims", "The fastest methods", "The control", "The machine"]
    places = [front["info"].index(heading) for heading in headings]
    assert places == sorted(places)
    assert front["info"].count(" here: ") == 5  # a verdict a claim
    assert front["top"] > 0
    assert front["image"] > 0


def test_figures_and_tables_are_listed_by_what_they_show(visit):
    captions = yaml.safe_load((ROOT / "paper/captions.yaml").read_text())
    for kind in ("figures", "tables"):
        listed = visit[0][kind.capitalize()]["info"]
        assert [each["title"] for each in captions[kind].values() if each["title"] not in listed] == []


def test_every_entry_of_the_report_opens(visit):
    seen, console = visit
    assert console == []
    figures = {path: what for path, what in seen.items() if path.endswith(".svg")}
    assert figures
    assert [path for path, what in figures.items() if not what["width"]] == []
    assert not [path for path, what in seen.items() if "System Message" in what["info"]]  # a caption that is no RST
    assert all(what["frame"] > 0 for path, what in seen.items() if path.endswith((".html", ".pdf")))


def test_console_errors_are_seen(tmp_path):
    """The test above would notice one."""
    _, console = opened("<script>noSuchFunction()</script>", tmp_path)
    assert "noSuchFunction is not defined" in "".join(console)
