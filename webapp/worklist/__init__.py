"""Pages and lists of studies: worklist, one study, history, jobs."""
