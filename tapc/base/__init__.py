"""What everything stands on: errors, files, programs, integer arithmetic, options, progress, the terminal."""
