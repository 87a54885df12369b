"""A search's report: one HTML file with everything inside."""

from pathlib import Path

import jinja2

from tapc.base.files import write_whole
from tapc.search.report import pictures
from tapc.search.report.summary import Summary, summarize

__all__ = ["Summary", "summarize", "write_report"]

NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Write a run's report.html from its event log, beside its place and then renamed.

    Parameters
    ----------
    folder : Path
        Of the run; it need not be finished.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        The folder holds no usable log.
    OutputError
        The file cannot be written.
    """
    summary = summarize(folder)
    # Names, reasoning and code come from strangers: everything is escaped.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tapc.search.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {
        "Fitness": pictures.fitness_picture(summary),
        "Probability of the operators": pictures.probabilities_picture(summary),
        "Programs that did not execute": pictures.broken_picture(summary),
    }
    if summary.usage["requests"]:
        drawn["Tokens"] = pictures.tokens_picture(summary)
    lineage = summary.lineage
    text = environment.get_template("report.html.j2").render(
        s=summary,
        pictures=drawn,
        lineage=lineage,
        lineage_picture=pictures.lineage_picture(lineage) if len(lineage) > 1 else "",
        folder=folder.name,
    )
    return write_whole(folder / NAME, text)
