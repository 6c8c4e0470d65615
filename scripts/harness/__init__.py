"""Real kernels in a sandbox, a light front end for them, and what /proc says about them. Knows no kernel's internals."""
