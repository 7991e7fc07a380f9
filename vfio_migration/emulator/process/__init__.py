"""The process: a QEMU from its command line to its exit status."""
