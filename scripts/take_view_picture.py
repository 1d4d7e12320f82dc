"""Takes docs/view.jpg: the page of `zgs view` with the demo's camera and node, for the documentation.

    python scripts/take_view_picture.py

Needs Chromium. On a busy machine the numbers on the picture are a busy machine's.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from chromium import chromium  # noqa: E402
from dds_support import process  # noqa: E402

from zgs_ros.tools.demo import COMMAND, DOMAINS  # noqa: E402

WIDTH, HEIGHT = 1400, 1010
TEXT, WANTED = "something with wheels", "truck"

ASK = f"(byId('text').value = '{TEXT}', byId('ask').requestSubmit())"
SEEN = f"state.frame && state.frame.segments.some(segment => segment.label.includes('{WANTED}'))"
ANSWERED = f"!byId('send').disabled && byId('found').innerText.trim().includes('{WANTED}')"


def main() -> None:
    domain = ["--local", "--domain", str(random.choice(DOMAINS))]
    with ExitStack() as stack:
        stack.enter_context(process([*COMMAND, "camera", *domain, "--depth", "--rate", "5"]))
        stack.enter_context(process([*COMMAND, "run", *domain, "--profile", "mini", "--depth"]))
        viewer = stack.enter_context(process([*COMMAND, "view", *domain, "--port", "0"]))
        assert viewer.stdout is not None
        address = next(filter(None, (re.search(r"http://\S+", line) for line in viewer.stdout)))[0]
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        page = stack.enter_context(chromium(Path(profile)))
        page.open(address, WIDTH, HEIGHT)
        page.wait_for(f"state && ({SEEN}) && state.health.values['results per second'] > 0", 300)
        time.sleep(10)  # until the numbers are those of a node that has worked for a while
        page.wait_for(SEEN, 300)
        page.run(ASK)
        page.wait_for(f"({ANSWERED}) && ({SEEN})", 120)
        shot = Path(profile, "view.png")
        page.screenshot(shot)
        picture = Image.open(shot).convert("RGB")
        picture.save(ROOT / "docs" / "view.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
