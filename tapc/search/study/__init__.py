"""Studies: searches over a grid of options and seeds, and the tables that they make."""

from tapc.search.study.run import Study, run_study
from tapc.search.study.schema import Draws, StudyFile, read_study
from tapc.search.study.tables import StudyTable

__all__ = ["Draws", "Study", "StudyFile", "StudyTable", "read_study", "run_study"]
