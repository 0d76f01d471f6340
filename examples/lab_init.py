"""Run an experiment of the laboratory: its claim, whether it held, its numbers, its figure in a file."""

import tempfile
from pathlib import Path

import runtrue

result = runtrue.lab.run("init", samples=500, seeds=3)
print(result.claim)
print("held" if result.held else "did not hold")
for part in result.judgements:
    print(f"  {part.code}: {part.words}")

small = result.series["small"]
print("N(0, 0.01²), std of layers 1 to 10:", *(f"{row['std']:.6f}" for row in small[1:]))

folder = Path(tempfile.mkdtemp())
result.chart.save(folder / "init.svg")
page = result.to_html(folder / "init.html")
print(f"figure: {folder / 'init.svg'}\npage: {page}")

assert result.held
assert small[-1]["std"] < 1e-5 < small[1]["std"]
assert (folder / "init.svg").read_text().startswith("<svg") and page.stat().st_size > 10_000
