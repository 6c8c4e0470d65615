"""Tests that drive real kernels through `jupyter_client`, as a front end does.

They run against mpkernel, or with ``MPKERNEL_TEST_KERNEL=ipykernel`` against ipykernel, to show that a test states what
users of ipykernel know and not only what mpkernel happens to do. Environment variables:

=========================  =========================================================================================
``MPKERNEL_TEST_KERNEL``   ``mpkernel`` (default) or ``ipykernel``
``MPKERNEL_TEST_ALL``      set: also run the tests marked ``mpkernel_only`` on ipykernel (they should fail there)
``MPKERNEL_TEST_PATIENCE`` factor on every deadline, for slow or busy machines (default 1)
``MPKERNEL_STRESS``        how many interrupts the stress test sends (default 300)
``MPKERNEL_SEED``          seed of what is random (default: the clock; it is printed)
=========================  =========================================================================================
"""
