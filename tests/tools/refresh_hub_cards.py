"""Bring the code in the shipped Hub folders up to date with the package's; their weights, facts and cards stay.

python -m tests.tools.refresh_hub_cards
"""

from pathlib import Path

from radscribe.training.build import SHIPPED, load_checkpoint
from radscribe.training.export_hub import exported_code


def main() -> None:
    for folder in sorted(path.parent for path in SHIPPED.glob("*/config.json")):
        for old in folder.glob("*.py"):
            old.unlink()
        code = exported_code(*load_checkpoint(str(folder)))
        for name, text in code.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        print(f"{folder.name}: {len(code)} files of code")


if __name__ == "__main__":
    main()
