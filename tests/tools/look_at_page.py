"""Open a page of `radscribe evaluate --html` in a real browser, check it, and take pictures of it.

    python -m tests.tools.look_at_page PAGE.html FOLDER

Needs Chromium (`chromium`, Debian's name, or the path in the variable CHROMIUM); a development aid, no dependency.
Saves light.png, dark.png and phone.png (390 px wide) into FOLDER and fails where the page would scroll sideways, a
picture does not show, two elements share an id, or anything would be loaded from outside.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DESK, PHONE = (1280, 900), (390, 844)
_ENDING = "look-at-page"
# Chromium's windows are 500 px wide at least, so the page stands in a frame of the width that is asked for.
_FRAME = """<!DOCTYPE html><html style="color-scheme: light dark"><body style="margin: 0">
<script>addEventListener("message", event => document.body.setAttribute("data-ENDING", event.data));</script>
<iframe src="page.html" style="border: 0; width: WIDTHpx; height: HEIGHTpx"></iframe></body></html>"""
# Runs in a copy of the page and tells the frame, where --dump-dom shows it, what it measured.
_MEASURE = """<script>
addEventListener("load", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  const all = [...document.querySelectorAll("*")];
  const ids = all.map(one => one.id).filter(Boolean);
  const found = {
    width: innerWidth, scroll: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
    wide: all.filter(one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll"))
      .map(one => one.tagName + "." + one.className).slice(0, 5),
    blank: [...document.images].filter(one => !one.naturalWidth).length, images: document.images.length,
    repeated: ids.filter((id, place) => ids.indexOf(id) !== place).slice(0, 5),
    loaded: performance.getEntriesByType("resource").map(one => one.name)
      .filter(name => !name.startsWith("data:")).slice(0, 5),
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
  };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>"""


def run_browser(page: Path, size: tuple[int, int], *options: str) -> str:
    """Chromium without a window on a copy of the page, all folded parts open, in a frame of `size` pixels.

    Returns what it prints.
    """
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if browser is None:
        raise SystemExit("There is no `chromium` on the path; install it or name it in the variable CHROMIUM.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = page.read_text(encoding="utf-8").replace("</body>", f"{_MEASURE}</body>")
        (folder / "page.html").write_text(text, encoding="utf-8")
        frame = _FRAME.replace("ENDING", _ENDING).replace("WIDTH", str(size[0])).replace("HEIGHT", str(size[1]))
        (folder / "frame.html").write_text(frame)
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={max(size[0], 500)},{size[1]}", *options]
        command.append((folder / "frame.html").as_uri())
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def measure(page: Path, size: tuple[int, int], *options: str) -> dict:
    """What the page is like in a window of `size`."""
    dump = run_browser(page, size, "--dump-dom", *options)
    found = re.search(f'data-{_ENDING}="([^"]*)"', dump)
    if found is None:
        raise SystemExit(f"{page} did not finish loading.")
    return json.loads(html.unescape(found[1]))


def picture(page: Path, size: tuple[int, int], target: Path, *options: str) -> None:
    """The page in a window of `size` as PNG."""
    run_browser(page, size, f"--screenshot={target.resolve()}", *options)
    with Image.open(target) as image:
        image.crop((0, 0, *size)).save(target)


def find_faults(found: dict, width: int) -> list[str]:
    """What is wrong with a measured page."""
    faults = {
        f"the window is {found['width']} px wide, {width} were asked for": found["width"] != width,
        f"it scrolls sideways: {found['scroll']} px, {found['wide']}": found["scroll"] > found["width"],
        f"{found['blank']} pictures do not show": found["blank"],
        f"ids occur twice: {found['repeated']}": found["repeated"],
        f"it loads {found['loaded']}": found["loaded"],
    }
    return [fault for fault, there in faults.items() if there]


def look(page: Path, folder: Path) -> list[str]:
    """Check and picture a page in the light, in the dark and on a phone; returns the faults."""
    folder.mkdir(parents=True, exist_ok=True)
    faults = []
    for name, size, options in (
        ("light", DESK, []),
        ("dark", DESK, ["--blink-settings=preferredColorScheme=0"]),
        ("phone", PHONE, []),
    ):
        found = measure(page, size, *options)
        print(f"{name}: {json.dumps(found)}")
        faults += [f"{name}: {fault}" for fault in find_faults(found, size[0])]
        if found["dark"] != (name == "dark"):
            faults.append(f"{name}: the colour scheme is not as asked for")
        picture(page, (size[0], found["height"]), folder / f"{name}.png", *options)
    return faults


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    if problems := look(Path(sys.argv[1]).resolve(), Path(sys.argv[2])):
        raise SystemExit("\n".join(problems))
