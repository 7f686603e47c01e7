"""The tables and figures of the paper by one command: plans the runs, carries them out, and reports."""
