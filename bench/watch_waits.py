"""Whether a watched step ever waits for the GPU: the profiler's calls of CUDA that wait, watched and unwatched.

Run: `python bench/watch_waits.py [--steps 20] [--only transformer]`, where there is an NVIDIA GPU. First the same steps run while
torch raises at every call of its own that waits (`torch.cuda.set_sync_debug_mode("error")`). Then the profiler records them, and
the waiting calls (cudaStreamSynchronize, cudaDeviceSynchronize, cudaEventSynchronize, cudaMemcpy) are counted on the thread that
trains and on all others: the watch's own thread may wait. Writes bench/results/watch_waits.json; the exit code is 1 if a watched
step waits.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from _common import seed_all, table, write
from watch import WAYS, WORKLOADS, Side

WAITS = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"}
WARM = 40  # steps before: memory is pinned, and libraries choose their kernels


def waits_of(side: Side, steps: int) -> tuple[Counter[str], Counter[str], int]:
    """Calls that wait on this thread, on the others, and all calls of CUDA's runtime on this thread."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for _ in range(steps):
            side.step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        found.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    calls = [e for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver")]
    launches = Counter(e["tid"] for e in calls if "LaunchKernel" in e["name"])
    training = {threading.get_native_id(), *(tid for tid, count in launches.items() if count > steps)}  # and autograd's
    own = Counter(e["name"] for e in calls if e["tid"] in training and e["name"] in WAITS)
    other = Counter(e["name"] for e in calls if e["tid"] not in training and e["name"] in WAITS)
    return own, other, sum(e["tid"] in training for e in calls)


def looked_at(name: str, way: str, steps: int) -> dict[str, Any]:
    seed_all(0)
    model, batch, classes = WORKLOADS[name]("cuda")
    side = Side(model.cuda(), batch, classes, WAYS[way])
    side.block(WARM)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(steps):
            side.step()
        raised = ""
    except RuntimeError as error:
        raised = str(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    own, other, calls = waits_of(side, steps)
    readings = 0
    if side.watch is not None:
        readings = side.watch.readings
        if side.watch._off:
            raised = raised or "the watch has given up"
        side.watch.close()
    # the profiler itself waits for the device once when it ends
    return {"waits": dict(own), "on other threads": dict(other), "calls": calls, "raised": raised, "readings": readings}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", action="append", choices=list(WORKLOADS))
    options = parser.parse_args()
    rows, results, waited = [], dict[str, Any](), False
    for name in options.only or ["resnet50", "transformer"]:
        for way in WAYS:
            found = results.setdefault(name, {})[way] = looked_at(name, way, options.steps)
            rows.append([name, way, *(str(found[k]) for k in found)])
        base = sum(results[name]["control"]["waits"].values())
        waited |= any(sum(r["waits"].values()) > base or bool(r["raised"]) for r in results[name].values())
    print(table(["workload", "way", "waits", "on other threads", "calls", "raised", "readings"], rows))
    print(write("watch_waits", results, steps=options.steps, card=torch.cuda.get_device_name()))
    return int(waited)


if __name__ == "__main__":
    sys.exit(main())
