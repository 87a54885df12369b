"""Fit one exponent of the scores on all networks of tapc-bench 2 but one, and test it on that one.

    python examples/score_exponent.py

Prints, for every proxy, the mean rank correlation within a size at each exponent and, network by network, the exponent
that is best for the others and what it adds there.
"""

import numpy as np

from tapc.flow.losses import load_losses, loss_names
from tapc.flow.losses.ranking import Ranking, builtin_scores, found_scores

EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def main() -> None:
    """Run from the command line."""
    tables = [load_losses(name) for name in loss_names()]
    rankings = [Ranking(table, "gptq") for table in tables]
    usual = EXPONENTS.index(1.0)
    print("| proxy |", " | ".join(f"{e:g}" for e in EXPONENTS), "|", " | ".join(t.network for t in tables), "| mean |")
    print("|---|" + "---|" * (len(EXPONENTS) + len(tables) + 1))
    for proxy, scores in (builtin_scores(tables) | found_scores(tables)).items():
        rho = np.array(
            [
                [r.correlation(r.predicted([s**e for s in scores[r.table.network]]), "spearman") for e in EXPONENTS]
                for r in rankings
            ]
        )
        gains, cells = [], []
        for i in range(len(tables)):
            fitted = int(np.delete(rho, i, axis=0).mean(axis=0).argmax())
            gains.append(rho[i, fitted] - rho[i, usual])
            cells.append(f"{gains[-1]:+.3f} ({EXPONENTS[fitted]:g})")
        means = " | ".join(f"{value:.3f}" for value in rho.mean(axis=0))
        print(f"| `{proxy}` | {means} | {' | '.join(cells)} | {np.mean(gains):+.3f} |")


if __name__ == "__main__":
    main()
