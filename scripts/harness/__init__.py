"""Real kernels in a sandbox, a light front end, and what /proc says about processes. Knows no kernel's internals."""
