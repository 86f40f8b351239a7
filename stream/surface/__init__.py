"""What people touch: the command line and the report. Refuses to know how bytes travel."""

import os

# The matrices here are small. With more threads than free cores OpenBLAS waits in a spin: beside one other busy process
# the year of flights took 8 minutes in place of 4. It must be said before numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
