"""The vignettes on real data, end to end, into one report."""

from separatrix.tour.chapter import Chapter as Chapter, Check as Check, Section as Section
from separatrix.tour.running import (
    CHAPTERS as CHAPTERS,
    TourResult as TourResult,
    run as run,
    run_chapter as run_chapter,
)
