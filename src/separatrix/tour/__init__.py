"""The vignettes on real data, end to end, into one report."""

from separatrix.tour.chapter import Chapter as Chapter, Check as Check, Section as Section
from separatrix.tour.run import CHAPTERS as CHAPTERS, Tour as Tour, run as run, run_chapter as run_chapter
