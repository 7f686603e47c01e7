"""Makes the tables and figures of the paper: plans the runs of a study, trains and probes them, and reports."""
