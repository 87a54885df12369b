"""Draw the folders of tapc/ and what they import, from the code: `python tools/architecture.py`.

Writes docs/architecture.svg. A folder stands one floor above the highest that it imports; arrows lead to folders that
are imported and that no other arrow leads to on a detour.
"""

from pathlib import Path

from quick import imports

from tapc.base.picture import save_picture, start_drawing

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tapc"
WIDTH, HEIGHT = 1.9, 0.62


def folders() -> dict[str, set[str]]:
    """Return each folder of the package with the folders that it imports."""
    graph: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.glob("*/**/*.py")):
        own = path.relative_to(PACKAGE).parts[0]
        graph.setdefault(own, set())
        graph[own] |= {name.split(".")[1] for name in imports(path) if name.startswith("tapc.")} - {own}
    return graph


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """Return each folder's floor, the ground is 0."""
    known: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in known:
            known[name] = 1 + max((floor(other) for other in graph[name]), default=-1)
        return known[name]

    return {name: floor(name) for name in graph}


def direct(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out imports that a chain of others implies."""

    def reached(name: str) -> set[str]:
        return graph[name].union(*(reached(other) for other in graph[name]))

    return {name: others - set().union(*(reached(other) for other in others)) for name, others in graph.items()}


def main() -> None:
    """Draw."""
    graph = folders()
    level = floors(graph)
    rows: dict[int, list[str]] = {}
    for name in sorted(graph):
        rows.setdefault(level[name], []).append(name)
    widest = max(map(len, rows.values()))
    place = {
        name: ((index + 0.5) * widest / len(names) * 2.3, number * 1.25)
        for number, names in rows.items()
        for index, name in enumerate(names)
    }
    pyplot = start_drawing()
    figure, axes = pyplot.subplots(figsize=(8.6, 8.2))
    for name, others in direct(graph).items():
        for other in sorted(others):
            (x, y), (u, v) = place[name], place[other]
            style = {"arrowstyle": "-|>", "color": "#9aa5b1", "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (u, v + HEIGHT / 2), (x, y - HEIGHT / 2), arrowprops=style)
    for name, (x, y) in place.items():
        count = sum(1 for _ in (PACKAGE / name).rglob("*.py"))
        box = pyplot.Rectangle((x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, facecolor="#e8f0fa", edgecolor="#2f5d8a")
        axes.add_patch(box)
        axes.text(x, y + 0.09, f"{name}/", ha="center", va="center", fontsize=11, weight="bold", color="#16324f")
        axes.text(x, y - 0.17, f"{count} files", ha="center", va="center", fontsize=7.5, color="#52606d")
    axes.set_xlim(-0.1, widest * 2.3 + 0.1)
    axes.set_ylim(-0.6, max(rows) * 1.25 + 0.6)
    axes.axis("off")
    figure.tight_layout()
    save_picture(figure, ROOT / "docs" / "architecture.svg")


if __name__ == "__main__":
    main()
